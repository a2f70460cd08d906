"""mlx-vlm: its tables are the files in `tables`, one for each model type; some of mlx-lm's serve it, too."""
