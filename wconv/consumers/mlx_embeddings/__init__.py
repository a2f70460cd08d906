"""What mlx-embeddings calls the tensors of models that embed text and images, and how it lays them out."""
