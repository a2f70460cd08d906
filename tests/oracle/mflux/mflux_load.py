"""mflux's own WeightLoader over a model directory: every weight it makes, flat, in one file."""

import importlib
import sys

import mlx.core as mx
from mflux.models.common.weights.loading.weight_loader import WeightLoader
from mlx.utils import tree_flatten

definition_path, source, out = sys.argv[1:4]
module, _, name = definition_path.rpartition(".")
definition = getattr(importlib.import_module(module), name)
loaded = WeightLoader.load(definition, None if source == "-" else source)
mx.save_safetensors(out, dict(tree_flatten(loaded.components)))
