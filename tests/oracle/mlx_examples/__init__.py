"""Comparisons with mlx-examples' own models."""
