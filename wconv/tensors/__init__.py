"""Numbers and nothing of any file's format: dtypes, lazy tensors, casts."""
