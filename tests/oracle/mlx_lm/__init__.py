"""Comparisons with mlx-lm."""
