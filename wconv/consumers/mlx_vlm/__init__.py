"""mlx-vlm's tables."""
