"""transformers, whose names and layouts are the hub's: the way back."""
