"""Models of parakeet-mlx, loaded by the program itself."""
