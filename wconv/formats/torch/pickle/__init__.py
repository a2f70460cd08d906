"""A pickle machine that cannot run code, and the names that it knows."""
