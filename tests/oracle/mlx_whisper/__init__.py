"""Comparisons with mlx-whisper."""
