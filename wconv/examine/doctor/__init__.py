"""Whether a program would load a model's directory, and what mends it where it would not."""
