"""A consumer of one folder, as somebody would add it: what `test_toy_consumer.py` registers."""
