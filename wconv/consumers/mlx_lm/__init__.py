"""mlx-lm's tables."""
