"""Which model types the installed consumers have, and which fields of a config they read: data for wconv.

`python -m tests.oracle.model_types` writes `model_types.json` in the consumers' folders and
`mlx/config_readers.json` anew.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

CONSUMERS = Path(__file__).parents[2] / "wconv" / "consumers"

FIELDS = (
    "rope_theta",
    "partial_rotary_factor",
    "rope_scaling",
    "rope_local_base_freq",
    "tie_word_embeddings",
)
"""Fields of the language model that transformers 5 keeps elsewhere than its consumers."""


NO_TEXT = re.compile(r"embedding|^col|^sam3|^rf-?detr|^rt_detr|perception")
"""Models that find, cut out or embed, and generate nothing."""


def modules(package: str) -> dict[str, ModuleType]:
    """A consumer's models by the name of their module."""
    home = importlib.import_module(package)
    found = {}
    for one in pkgutil.iter_modules(home.__path__):
        try:
            found[one.name] = importlib.import_module(f"{package}.{one.name}")
        except (ImportError, SystemExit):  # one of them exits where a package is missing
            continue
    return found


def remapped(models: dict[str, ModuleType], remapping: dict[str, str]) -> dict[str, ModuleType]:
    """The models by `model_type`: module names, but where another module takes their place."""
    return {**models, **{name: models[target] for name, target in remapping.items() if target in models}}


def configs(module: ModuleType, package: str, *, deep: bool) -> Iterator[type[Any]]:
    """The dataclasses of a module; with `deep` those of its package that it imports, too."""
    for value in vars(module).values():
        if inspect.isclass(value) and dataclasses.is_dataclass(value):
            yield value
        elif deep and inspect.ismodule(value) and value.__name__.startswith(package):
            yield from configs(value, package, deep=False)


def fields(classes: Iterator[type[Any]]) -> set[str]:
    return {field.name for one in classes for field in dataclasses.fields(one)}


def mlx_lm() -> tuple[dict[str, ModuleType], dict[str, set[str]], dict[str, set[str]]]:
    """The models, what is read of a config's root, and of its language model's part."""
    from mlx_lm import utils

    found = modules("mlx_lm.models")
    models = {name: one for name, one in found.items() if hasattr(one, "Model") and hasattr(one, "ModelArgs")}
    models = remapped(models, utils.MODEL_REMAPPING)
    root = {name: fields(iter([one.ModelArgs])) for name, one in models.items()}
    text = {name: fields(configs(one, "mlx_lm.models", deep=True)) for name, one in models.items()}
    return models, root, text


def mlx_vlm() -> tuple[dict[str, ModuleType], dict[str, set[str]], dict[str, set[str]], set[str]]:
    """As `mlx_lm`, and the models that take no field of the language model's part that they do not know."""
    from mlx_vlm import utils

    found = modules("mlx_vlm.models")
    models = remapped(
        {name: one for name, one in found.items() if hasattr(one, "Model")}, utils.MODEL_REMAPPING
    )
    root: dict[str, set[str]] = {}
    text: dict[str, set[str]] = {}
    strict: set[str] = set()
    for name, one in models.items():
        whole = [getattr(one, kind, None) for kind in ("ModelConfig", "ModelArgs")]
        root[name] = fields(iter([kind for kind in whole if dataclasses.is_dataclass(kind)]))
        part = getattr(one, "TextConfig", None)
        if not dataclasses.is_dataclass(part):
            continue
        text[name] = fields(iter([part]))
        if any("TextConfig(**" in inspect.getsource(kind) for kind in whole if kind is not None):
            strict.add(name)
    return models, root, text, strict


def required() -> dict[str, str]:
    """Model type → the fields of a config's root without which mlx-lm makes no arguments of a model."""
    found = {}
    for name, one in mlx_lm()[0].items():
        kind = one.ModelArgs
        if (
            kind.from_dict.__func__
            is not importlib.import_module("mlx_lm.models.base").BaseModelArgs.from_dict.__func__
        ):
            continue
        missing = dataclasses.MISSING
        names = [
            field.name
            for field in dataclasses.fields(kind)
            if field.default is missing and field.default_factory is missing
        ]
        found[name] = [field for field in names if field != "model_type"]
    return {name: " ".join(fields) for name, fields in sorted(found.items()) if fields}


def reads() -> dict[str, dict[str, list[str]]]:
    """Field → "root" and "text" → the model types of which a consumer reads it there."""
    _, root, text = mlx_lm()
    _, more_root, more_text, strict = mlx_vlm()
    whole = {name: root.get(name, set()) | more_root.get(name, set()) for name in {*root, *more_root}}
    part = {
        name: more_text.get(name, set()) | (set() if name in strict else text.get(name, set()))
        for name in {*text, *more_text}
    }
    return {
        field: {
            "root": sorted(name for name, known in whole.items() if field in known),
            "text": sorted(name for name, known in part.items() if field in known),
        }
        for field in FIELDS
    }


def gathered() -> dict[Path, Any]:
    """What each file says of the consumers that are installed."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    language = mlx_lm()[0]
    vision = {
        name
        for name, one in mlx_vlm()[0].items()
        if name in language or (hasattr(one, "LanguageModel") and not NO_TEXT.search(name))
    }
    types = {
        "mlx-lm": sorted(language),
        "mlx-vlm": sorted(map(str.lower, vision)),
        "transformers": sorted(MODEL_MAPPING_NAMES),
    }
    files: dict[Path, Any] = {
        CONSUMERS / consumer.replace("-", "_") / "model_types.json": {
            "version": importlib.metadata.version(consumer),
            "model_types": known,
        }
        for consumer, known in types.items()
    }
    files[CONSUMERS / "mlx_lm" / "model_types.json"]["required"] = required()
    return {**files, CONSUMERS / "mlx" / "config_readers.json": reads()}


if __name__ == "__main__":
    for path, content in gathered().items():
        path.write_text(json.dumps(content, indent=1) + "\n")
