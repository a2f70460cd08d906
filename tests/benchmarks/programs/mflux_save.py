"""FLUX.2's transformer as mflux loads it from the hub's form and saves it in its own."""

import json
import re
import sys
from pathlib import Path

from mflux.models.common.weights.loading.weight_loader import WeightLoader
from mflux.models.common.weights.saving.model_saver import ModelSaver
from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer
from mflux.models.flux2.weights.flux2_weight_definition import Flux2KleinWeightDefinition

source, target = map(Path, sys.argv[1:])
index = json.loads((source / "transformer" / "model.safetensors.index.json").read_text())
blocks = {re.match(r"(single_)?transformer_blocks\.\d+", name) for name in index["weight_map"]}
names = {found[0] for found in blocks if found}
model = Flux2Transformer(
    num_layers=sum(not name.startswith("single") for name in names),
    num_single_layers=sum(name.startswith("single") for name in names),
)
component = next(one for one in Flux2KleinWeightDefinition.get_components() if one.name == "transformer")
loaded = WeightLoader.load_single_local(component, source)
model.update(loaded.components["transformer"], strict=False)
ModelSaver._save_weights(str(target), None, model, "transformer")
