"""The programs for speech and embeddings as the prober sees them: mlx-audio, mlx-embeddings, parakeet-mlx."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.derive import own_configs, programs

DOMAINS = ("tts", "stt", "sts", "lid", "vad", "music", "codec")
"""mlx-audio's folders of models, in the order in which it asks them for a model type that several have."""

COMMANDS = {
    "tts": "mlx_audio.tts.generate --model {model} --text 'Hello'",
    "stt": "mlx_audio.stt.generate --model {model} --audio AUDIO --output-path TEXT",
}


def reachable(place: str) -> None:
    """Puts the folder of a program that lies beside the environment behind it on the path."""
    if place and place not in sys.path:
        sys.path.append(place)


@dataclass(frozen=True)
class Audio(programs.Program):
    """mlx-audio: models in folders by what they are for."""

    autos = (
        "AutoModelForSpeechSeq2Seq",
        "AutoModelForCTC",
        "AutoModelForAudioClassification",
        "AutoModelForTextToWaveform",
        "AutoModelForCausalLM",
        "AutoModel",
    )

    def model_types(self) -> Iterator[str]:
        yield from sorted(homes())

    def has_model(self, name: str) -> bool:
        return True

    def module(self, model_type: str) -> Any:
        domain, _, name = homes()[model_type].partition("/")
        return importlib.import_module(f"mlx_audio.{domain}.models.{name}")

    def is_part(self, model_type: str) -> bool:
        """Codecs, and what speech models share: its loader wants a `Model`, its converter has no codecs."""
        domain = homes()[model_type].partition("/")[0]
        shared = domain == "codec" or model_type == "nemo"
        return shared and not hasattr(self.module(model_type), "Model")

    def remapped(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for domain in DOMAINS:
            try:
                utils = importlib.import_module(f"mlx_audio.{domain}.utils")
            except ImportError:
                continue
            for name, target in getattr(utils, "MODEL_REMAPPING", {}).items():
                if homes().get(target, "").startswith(f"{domain}/"):
                    found.setdefault(name, target)
        return {name: target for name, target in found.items() if name not in homes()}

    def make(self, module: Any, config: programs.Config) -> tuple[Any, Any]:
        cls = getattr(module, "ModelConfig", None)
        model = module.Model(cls.from_dict(config) if cls is not None else config)
        if set(model.children()) == {"model"} and not hasattr(model, "sanitize"):
            model = model.model  # what only wraps one hands its checkpoint on
        return model, getattr(model, "sanitize", None) or (lambda weights: weights)

    def command(self, model_type: str) -> str:
        """Where its loader comes to the module by the model type, whatever the directory is called."""
        domain, _, name = homes()[model_type].partition("/")
        if domain not in COMMANDS:
            return ""
        utils = importlib.import_module(f"mlx_audio.{domain}.utils")
        return COMMANDS[domain] if utils.MODEL_REMAPPING.get(name, name) == name else ""

    def own_config(self, model_type: str) -> programs.Config:
        module = self.module(model_type)
        cls = getattr(module, "ModelConfig", None)
        config: programs.Config = {"model_type": model_type}
        if cls is None:
            return config
        return own_configs.nested(own_configs.filled(config, cls), cls)


@functools.cache
def homes() -> Mapping[str, str]:
    """Model type → its folder and module; one that a later folder has too is called by both."""
    root = Path(str(importlib.import_module("mlx_audio").__file__)).parent
    found: dict[str, str] = {}
    for domain in DOMAINS:
        for place in sorted((root / domain / "models").iterdir()):
            if place.is_dir() and not place.name.startswith("_"):
                name = place.name if place.name not in found else f"{domain}.{place.name}"
                found[name] = f"{domain}/{place.name}"
    return found


@dataclass(frozen=True)
class Embeddings(programs.Program):
    """mlx-embeddings: text, and images with it."""

    autos = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM")

    def model_types(self) -> Iterator[str]:
        root = Path(str(importlib.import_module("mlx_embeddings.models").__path__[0]))
        for place in sorted(root.iterdir()):
            if place.stem not in ("__init__", "__pycache__", "base"):
                yield place.stem

    def make(self, module: Any, config: programs.Config) -> tuple[Any, Any]:
        from mlx_vlm.utils import sanitize_weights

        args = module.ModelArgs.from_dict(config)
        parts = hasattr(module, "TextConfig") and hasattr(module, "VisionConfig")
        for name, cls in (("text_config", "TextConfig"), ("vision_config", "VisionConfig")) if parts else ():
            if not dataclasses.is_dataclass(getattr(args, name)):
                setattr(args, name, getattr(module, cls)(**getattr(args, name)))
        model = module.Model(args)

        def sanitize(weights: programs.Arrays) -> programs.Arrays:
            weights = model.sanitize(weights) if hasattr(model, "sanitize") else weights
            for name, part in (("VisionModel", "vision_config"), ("LanguageModel", "text_config")):
                if hasattr(module.Model, name):
                    weights = sanitize_weights(getattr(module.Model, name), weights, getattr(args, part))
            return weights

        return model, sanitize

    def remapped(self) -> Mapping[str, str]:
        from transformers import CONFIG_MAPPING

        names = set(self.model_types())
        found = dict(importlib.import_module("mlx_embeddings.utils").MODEL_REMAPPING)
        dashed = {one: one.replace("-", "_") for one in CONFIG_MAPPING if "-" in one}
        return {**{one: name for one, name in dashed.items() if name in names}, **found}

    def own_config(self, model_type: str) -> programs.Config:
        module = self.module(model_type)
        config: programs.Config = {"model_type": model_type}
        config = own_configs.nested(own_configs.filled(config, module.ModelArgs), module.ModelArgs)
        for part in ("text", "vision"):
            cls = getattr(module, f"{part.title()}Config", None)
            if cls is not None and dataclasses.is_dataclass(cls) and f"{part}_config" in config:
                inner = own_configs.plain(config[f"{part}_config"])
                config[f"{part}_config"] = own_configs.nested(own_configs.filled(inner, cls), cls)
        return config
