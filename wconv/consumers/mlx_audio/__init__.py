"""What mlx-audio calls the tensors of models for speech, and how it lays them out."""
