"""mlx-whisper."""
