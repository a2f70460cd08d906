"""The optimizer state of a training checkpoint as mlx.optimizers holds it, under the weights' new names."""

from wconv.optimizers.mlx_state import FILENAME, Laid, lay_out

__all__ = ["FILENAME", "Laid", "lay_out"]
