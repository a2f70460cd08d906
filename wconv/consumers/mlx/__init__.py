"""What holds of every program that computes with MLX."""
