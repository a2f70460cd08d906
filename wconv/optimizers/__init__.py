"""The optimizer state of a training checkpoint as mlx.optimizers holds it, under the weights' new names."""

from wconv.optimizers.mlx_state import FILENAME, MlxOptimizerState, lay_out_state

__all__ = ["FILENAME", "MlxOptimizerState", "lay_out_state"]
