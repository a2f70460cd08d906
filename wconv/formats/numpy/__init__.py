"""numpy's own files."""
