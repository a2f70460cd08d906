"""A weights file or a model directory as one mapping from names to lazy tensors."""
