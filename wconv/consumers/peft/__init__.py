"""PEFT, which loads adapters."""
