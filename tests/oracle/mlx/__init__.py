"""Comparisons with mlx.nn and mlx.optimizers."""
