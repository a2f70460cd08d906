"""Tiny models as transformers 5 saves them, with numbers in config.json that are nobody's defaults."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.derive import transformers_overrides
from tests.derive.configs import merge
from tests.derive.programs import Program
from tests.derive.shrink import shrunk
from tests.derive.sources import _built, with_parts
from tests.oracle.tiny import randomise
from tests.oracles import oracle

IDS = [[3, 17, 200, 45, 5, 120, 9, 31, 77, 61, 150, 12]]
"""More words than the window of a sliding layer."""

KEPT = re.compile(
    r".*(dropout|drop|initializer|init_std|_std$|loss|coef|jitter|temperature|clip|limit|_min|_max|prob"
    r"|threshold|ratio|expand|floor|time_step|dt_|mult$|noise|factor$|rope|theta|rotary).*"
)
"""Numbers that inference does not use, or whose change makes another model."""


def change(config: dict[str, Any]) -> None:
    """Gives the language model's numbers other values: epsilons, multipliers, bases, shares, windows."""
    for key, value in config.items():
        if isinstance(value, dict):
            if key not in ("rope_parameters", "rope_scaling") and not re.search("vision|audio", key):
                change(value)
        elif type(value) is float:
            if "eps" in key:
                config[key] = 0.01
            elif not KEPT.fullmatch(key):
                config[key] = value * 0.75
        elif key == "sliding_window" and type(value) is int:
            config[key] = 4
    rope = config.get("rope_parameters")
    if isinstance(rope, dict):
        kinds = [one for one in rope.values() if isinstance(one, dict)]
        for part in kinds or [rope]:
            part["rope_theta"] = 700.0 if part is rope.get("sliding_attention") else 5000.0
            if isinstance(share := part.get("partial_rotary_factor"), float):
                part["partial_rotary_factor"] = 0.25 if share == 0.5 else 0.5


def save(program: Program, model_type: str, to: Path) -> np.ndarray[Any, Any]:
    """Saves a tiny model in float32; what transformers computes with it."""
    torch, transformers = oracle("torch"), oracle("transformers")
    cls = transformers.CONFIG_MAPPING[transformers_overrides.NAMES.get(model_type, model_type)]
    small = shrunk(with_parts(cls), {})
    merge(small, copy.deepcopy(dict(transformers_overrides.FIELDS.get(model_type, {}))))
    change(small)
    config = cls.from_dict(small)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = _built(program, transformers, config).float().eval()
    randomise(model)
    model.save_pretrained(to)
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model(input_ids=torch.tensor(IDS), use_cache=False).logits.numpy()
    return found


def computed(program: Program, path: Path) -> np.ndarray[Any, Any]:
    """What a program computes with a directory, for text alone."""
    mx = oracle("mlx.core")
    if program.name == "mlx-lm":
        found = oracle("mlx_lm.utils").load_model(path)[0](mx.array(IDS))
    else:
        found = oracle("mlx_vlm.utils").load_model(path)(mx.array(IDS), None, mask=None).logits
    return np.array(found.astype(mx.float32))


def difference(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """The largest, as a share of the largest number that is expected."""
    assert got.shape == expected.shape
    assert np.isfinite(expected).all()
    return float(np.abs(got - expected).max() / np.abs(expected).max())
