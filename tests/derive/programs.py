"""The programs as the prober sees them: modules, a model from a config, its sanitize, its casts."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.derive.own_configs import filled, nested, plain

Config = dict[str, Any]
Arrays = dict[str, Any]

PACKAGES = {
    "mlx-lm": "mlx_lm",
    "mlx-vlm": "mlx_vlm",
    "mlx-audio": "mlx_audio",
    "mlx-embeddings": "mlx_embeddings",
}
PARTS = ("text", "vision", "perceiver", "projector", "audio")


@dataclass(frozen=True)
class Program:
    """One of the programs; `tests/derive/speech.py` has those for speech and embeddings.

    Attributes:
        autos: transformers' classes that make its models, the best first.
    """

    name: str
    package: str
    version: str

    autos: ClassVar[tuple[str, ...]] = (
        "AutoModelForCausalLM",
        "AutoModelForImageTextToText",
        "AutoModelForSeq2SeqLM",
        "AutoModel",
    )

    def model_types(self) -> Iterator[str]:
        """Every module of models, by its own name."""
        models = importlib.import_module(f"{self.package}.models")
        for found in pkgutil.iter_modules(models.__path__):
            if found.ispkg is (self.name == "mlx-vlm") and self.has_model(found.name):
                yield found.name

    def has_model(self, name: str) -> bool:
        """Whether a module is a model's; one that does not import is said to be."""
        try:
            return hasattr(self.module(name), "Model")
        except (ImportError, SystemExit):
            return True

    def module(self, model_type: str) -> Any:
        return importlib.import_module(f"{self.package}.models.{model_type}")

    def sanitizes(self, model_type: str) -> bool:
        """Whether a model of the program, or a part of one, has a sanitize."""
        module = self.module(model_type)
        parts = (
            getattr(module, name, None) for name in ("Model", "VisionModel", "LanguageModel", "AudioModel")
        )
        return any(hasattr(part, "sanitize") for part in parts if part is not None)

    def tied_by_default(self, model_type: str) -> bool:
        """What the program takes `tie_word_embeddings` for where config.json does not say."""
        module = self.module(model_type)
        for name in ("ModelArgs", "TextConfig", "TextArgs", "ModelConfig"):
            cls = getattr(module, name, None)
            if cls is not None and dataclasses.is_dataclass(cls):
                for one in dataclasses.fields(cls):
                    if one.name == "tie_word_embeddings" and isinstance(one.default, bool):
                        return one.default
        return False

    def remapped(self) -> Mapping[str, str]:
        """Other model types → the module that serves them."""
        found: Mapping[str, str] = importlib.import_module(f"{self.package}.utils").MODEL_REMAPPING
        return found

    def make(self, module: Any, config: Config) -> tuple[Any, Callable[[Arrays], Arrays]]:
        """The model of a module for a config, and what is done to a checkpoint before it is loaded."""
        return (_mlx_lm if self.name == "mlx-lm" else _mlx_vlm)(module, config)

    def command(self, model_type: str) -> str:
        """The command that runs a model, with `{model}` for its path; "" where there is none for all."""
        return ""

    def own_config(self, model_type: str) -> Config:
        """A tiny config from the defaults of the program's own classes."""
        return _own_config(self, model_type)


@dataclass
class Probe:
    """A model of a program, made from a config, without memory for its parameters.

    Attributes:
        parameters: path → (shape, dtype name), as the model is made.
        sanitize: what the program does to a checkpoint before it loads it.
        casts: whether its conversion casts a parameter.
        make: makes it anew, with its sanitize.
        without: takes parts away of which a checkpoint has nothing, where the program does.
        owners: the class of module that holds each parameter.
    """

    config: Config
    model: Any
    parameters: dict[str, tuple[int, ...]]
    sanitize: Callable[[Arrays], Arrays]
    casts: Callable[[str], bool]
    make: Callable[[], tuple[Any, Callable[[Arrays], Arrays]]]
    without: Callable[[Arrays, set[str]], None]
    owners: dict[str, str] = field(default_factory=dict)

    def fresh(self, weights: Arrays) -> Arrays:
        """What sanitize of a model made anew makes of tensors; `now` is then that model's."""
        self.model, self.sanitize = self.make()
        return self._made(weights)

    def exact(self, weights: Arrays) -> Arrays:
        """The same in float32, where the program would cast to a dtype of its own, which loses numbers."""
        import mlx.core as mx

        self.model, self.sanitize = self.make()
        if isinstance(getattr(self.model, "dtype", None), mx.Dtype):
            with contextlib.suppress(AttributeError):  # one that only tells
                self.model.dtype = mx.float32
        return self._made(weights)

    def _made(self, weights: Arrays) -> Arrays:
        declared = set(weights)
        weights = self.sanitize(weights)
        self.without(weights, declared)
        return weights

    def now(self) -> dict[str, tuple[int, ...]]:
        """The parameters as they are now: sanitize may take some away."""
        from mlx.utils import tree_flatten

        return {name: tuple(array.shape) for name, array in tree_flatten(self.model.parameters())}


def program(name: str) -> Program:
    """A program of `PACKAGES`, which must be installed."""
    import importlib.metadata

    from tests.derive import speech
    from tests.oracles import BESIDE

    speech.reachable(os.environ.get(BESIDE.get(name, ""), ""))
    cls = {"mlx-audio": speech.Audio, "mlx-embeddings": speech.Embeddings}.get(name, Program)
    return cls(name, PACKAGES[name], importlib.metadata.version(name))


def probe(prog: Program, model_type: str, config: Config) -> Probe:
    """Makes the program's own model for a config, as its loader does.

    Raises:
        Exception: whatever the program raises for this config.
    """
    module = prog.module(model_type)
    model, sanitize = prog.make(module, copy.deepcopy(config))
    from mlx.utils import tree_flatten

    shapes = {name: tuple(array.shape) for name, array in tree_flatten(model.parameters())}
    casts = casts_of(model)
    owners = {}
    for path, inner in model.named_modules():
        for name in shapes:
            if name.rpartition(".")[0] == path:
                owners[name] = type(inner).__name__
    found = Probe(
        config,
        model,
        shapes,
        sanitize,
        casts,
        lambda: prog.make(module, copy.deepcopy(config)),
        lambda weights, declared: None,
        owners,
    )
    if prog.name == "mlx-vlm":
        drop = getattr(importlib.import_module("mlx_vlm.utils"), "_drop_modules_without_weights", None)
        if drop is not None:  # versions before 0.7 have none
            found.without = lambda weights, declared: drop(found.model, weights, declared)
    return found


def casts_of(model: Any) -> Callable[[str], bool]:
    """What a model says of which parameters are cast: all, where it does not, or its property fails."""
    try:
        found: Callable[[str], bool] = getattr(model, "cast_predicate", lambda _: True)
    except TypeError:
        return lambda _: True
    return found


def _mlx_lm(module: Any, config: Config) -> tuple[Any, Any]:
    model = module.Model(module.ModelArgs.from_dict(config))
    return model, getattr(model, "sanitize", None) or (lambda weights: weights)


def _mlx_vlm(module: Any, config: Config) -> tuple[Any, Any]:
    from mlx_vlm.utils import sanitize_weights, update_module_configs

    config.setdefault("text_config", config.pop("llm_config", {}))
    config.setdefault("vision_config", {})
    config.setdefault("audio_config", {})
    model_config = module.ModelConfig.from_dict(config)
    model_config = update_module_configs(model_config, module, config, list(PARTS))
    model = module.Model(model_config)

    def sanitize(weights: Arrays) -> Arrays:
        weights = sanitize_weights(model, weights)
        for name, part in (
            ("VisionModel", "vision_config"),
            ("LanguageModel", "text_config"),
            ("AudioModel", "audio_config"),
        ):
            if hasattr(module, name) and hasattr(model_config, part):
                weights = sanitize_weights(getattr(module, name), weights, getattr(model_config, part))
        return weights

    return model, sanitize


def own_config(prog: Program, model_type: str) -> Config:
    """A tiny config from the defaults of the program's own classes."""
    return prog.own_config(model_type)


def _own_config(prog: Program, model_type: str) -> Config:
    model_type, _, part = model_type.partition(":")
    module = prog.module(model_type)
    config: Config = {"model_type": model_type}
    if part:
        return nested(filled({}, getattr(module, part)), getattr(module, part))
    if prog.name == "mlx-lm":
        return nested(filled(config, module.ModelArgs), module.ModelArgs)
    config = nested(filled(config, module.ModelConfig), module.ModelConfig)
    for part in PARTS:
        cls = getattr(module, f"{part.title()}Config", None)
        if cls is not None and dataclasses.is_dataclass(cls):
            inner = config.get(f"{part}_config")
            config[f"{part}_config"] = nested(filled(plain(inner), cls), cls)
    return config
