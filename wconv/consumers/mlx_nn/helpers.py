"""What a skeleton needs beside mlx.nn's own layers, as text; and the names that are taken in it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping

TEXTS: Mapping[str, str] = {
    "Missing": '''
class Missing(nn.Module):
    """A layer that mlx.nn has not."""

    def __init__(self, name, instead):
        super().__init__()
        self._said = f"{name}: {instead}"

    def __call__(self, *inputs):
        raise NotImplementedError(self._said)
''',
    "Stacked": '''
class Stacked(nn.Module):
    """Recurrent layers upon each other, in one direction or in two."""

    def __init__(self, layers, reverse_layers=None):
        super().__init__()
        self.layers = layers
        if reverse_layers is not None:
            self.reverse_layers = reverse_layers

    def __call__(self, x):
        for at, layer in enumerate(self.layers):
            there = self._states(layer(x))
            if "reverse_layers" in self:
                back = self._states(self.reverse_layers[at](x[:, ::-1]))
                there = mx.concatenate([there, back[:, ::-1]], axis=-1)
            x = there
        return x

    @staticmethod
    def _states(output):
        return output[0] if isinstance(output, tuple) else output
''',
    "GroupedConvTranspose": '''
class GroupedConvTranspose(nn.Module):
    """A transposed convolution in groups, which mlx.nn's layers do not have."""

    def __init__(self, shape, groups, axes, stride=1, padding=0, dilation=1, output_padding=0, bias=True):
        super().__init__()
        self.weight = mx.zeros(shape)
        if bias:
            self.bias = mx.zeros((shape[0],))
        self._compute = getattr(mx, f"conv_transpose{axes}d")
        self._settings = (stride, padding, dilation, output_padding, groups)

    def __call__(self, x):
        y = self._compute(x, self.weight, *self._settings)
        return y + self.bias if "bias" in self else y
''',
    "BatchNorm3d": '''
class BatchNorm3d(nn.BatchNorm):
    """mlx.nn's takes four axes at most: joining the spatial ones changes nothing."""

    def __call__(self, x):
        return super().__call__(x.reshape(x.shape[0], -1, x.shape[-1])).reshape(x.shape)
''',
}

RESERVED = frozenset((*TEXTS, *dir(builtins), "mx", "nn", "make_model", "self", "super"))
"""Names that no class of a skeleton may have."""

TAKEN = frozenset(
    """
    apply apply_to_modules children clear copy eval filter_and_map freeze fromkeys get is_module items keys
    leaf_modules load_weights modules named_modules parameters pop popitem save_weights set_dtype setdefault
    state train trainable_parameter_filter trainable_parameters training unfreeze update update_modules
    valid_child_filter valid_parameter_filter values
    """.split()  # noqa: SIM905
)
"""Attributes that every `mlx.nn.Module` has."""
