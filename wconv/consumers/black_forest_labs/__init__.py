"""Black Forest Labs' own programs."""
