"""Derives tables of rules from the consumers themselves: see `__main__`."""
