"""Models of full size, as transformers makes them by default, meet no false alarm of the tables of shapes.

Only headers are written: the weights are holes in a file.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracles import oracle
from wconv.consumers import shapes

pytestmark = pytest.mark.oracle

FOLDERS = {"mlx-lm": "mlx_lm", "mlx-vlm": "mlx_vlm"}
AUTOS = {
    "mlx-lm": ("AutoModelForCausalLM",),
    "mlx-vlm": ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel"),
}
"""transformers' classes that make a program's models; the first that knows one does."""
CASES = [
    (program, path.stem)
    for program, folder in FOLDERS.items()
    for path in sorted((Path(shapes.__file__).parent / folder / "shapes").glob("*.toml"))
]

REFUSED_RIGHTLY = {
    # the program's own class has biases that the default configuration has not
    "phimoe": "is missing",
    # the program loads packed weights only
    "bitnet": "has the shape",
    # the program has one head of keys whatever the configuration says
    "recurrent_gemma": "has the shape",
}


def header_only(directory: Path, tensors: dict[str, Any]) -> None:
    """A safetensors file of bfloat16 whose data is a hole."""
    header: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        nbytes = 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


@pytest.mark.parametrize(("program", "model_type"), CASES, ids=[f"{one}-{two}" for one, two in CASES])
def test_a_model_of_full_size_is_not_refused_for_its_shapes(
    tmp_path: Path, program: str, model_type: str
) -> None:
    torch, transformers = oracle("torch"), oracle("transformers")
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if model_type not in known:
        pytest.skip(f"transformers has no {model_type}")
    config = known[model_type]()
    autos = [getattr(transformers, name) for name in AUTOS[program]]
    auto = next((one for one in autos if type(config) in one._model_mapping), autos[0])
    try:
        with torch.device("meta"):
            model = auto.from_config(config)
    except Exception as error:
        pytest.skip(f"transformers makes none by default: {error!r:.100}")
    config = json.loads(model.config.to_json_string(use_diff=False))
    tied = (
        set(getattr(model, "_tied_weights_keys", None) or ()) if config.get("tie_word_embeddings") else set()
    )
    header_only(tmp_path, {name: one for name, one in model.state_dict().items() if name not in tied})
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    said = ""
    try:
        wconv.prepare(tmp_path, tmp_path / "out", layout=program)
    except wconv.LayoutError as error:
        said = str(error)
    names_are_unknown = "does not account for" in said or "knows no such tensors" in said
    expected = REFUSED_RIGHTLY.get(model_type)
    assert names_are_unknown or (expected in said if expected else not said)
