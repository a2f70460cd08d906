"""Comparisons with mlx-vlm."""
