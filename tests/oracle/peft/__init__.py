"""Comparisons with PEFT."""
