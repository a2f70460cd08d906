"""How MLX loads a file of weights that no program of its own is known for."""

LOAD_FILE = "mlx.core.load('{model}')"
"""`{model}` stands for its path."""
