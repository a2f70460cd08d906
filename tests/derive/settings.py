"""What a program's sanitize does with other settings: a table holds only where it does the same."""

from __future__ import annotations

import contextlib
import copy
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from tests.derive.programs import Program, probe
from tests.derive.sources import Source
from tests.derive.trace import Origin, UntraceableError, traced
from wconv.consumers.mlx.config_fields import TIED_BY_ROOT
from wconv.layouts.conditions import Setting, When

Config = dict[str, Any]

SIZES = re.compile(r".*(eps|theta|dropout|std|range|base|rope|rotary|ratio|init|_id|token).*")
"""Fields whose numbers are never multiplied with a weight, or say a size."""

SCALING = re.compile(r".*(multiplier|scal(e|ing)|alpha|factor)s?")
LANGUAGE = ("", "text_config", "llm_config")
"""Where the fields of a language model may stand: conditions look in all three."""

PARTS = ("text_config", "llm_config", "vision_config", "audio_config")
WORD = re.compile(r"[a-z_][a-z0-9_]+")


def conditions(prog: Program, model_type: str, source: Source) -> tuple[When, ...]:
    """The settings without which a program's sanitize does something else to the same checkpoint.

    Raises:
        UntraceableError: it computes with numbers of the config.
    """
    before = _origins(source)
    for config in _other_numbers(source.config):
        with contextlib.suppress(_UnbuiltError):
            differing = _differing(before, _origins(_with(prog, model_type, source, config)))
            if differing:
                raise UntraceableError(f"{differing}: computed with numbers of config.json")
            break
    found: list[When] = []
    named = sanitizing_words(source.model.model)
    for place, key, value in _switches(source.config):
        if key not in named or "tie" in key:
            continue
        config = copy.deepcopy(source.config)
        for one in LANGUAGE if place in LANGUAGE else (place,):
            part = config.get(one) if one else config
            if isinstance(part, dict) and key in part:
                part[key] = not value
        try:
            differing = _differing(before, _origins(_with(prog, model_type, source, config)))
        except _UnbuiltError:
            continue
        if differing:
            path = key if place in LANGUAGE else f"{place}.{key}"
            found.append(When(Setting(path, _default(prog, model_type, place, key)), value))
    return tuple(dict.fromkeys(found))


class _UnbuiltError(Exception):
    """With these settings the program builds another model, or none."""


def sanitizing_words(model: Any) -> set[str]:
    """All words in the text of every sanitize that a model and its parts have."""
    words: set[str] = set()
    for cls in {type(module) for _, module in model.named_modules()}:
        for base in cls.__mro__:
            if "sanitize" in vars(base):
                method = inspect.unwrap(base.sanitize)
                with contextlib.suppress(OSError, TypeError):
                    words |= set(WORD.findall(inspect.getsource(method)))
    return words


def _switches(config: Config) -> Iterator[tuple[str, str, bool]]:
    for place in ("", *PARTS):
        part = config.get(place) if place else config
        for key, value in part.items() if isinstance(part, Mapping) else ():
            if isinstance(value, bool):
                yield place, key, value


def _other_numbers(config: Config) -> Iterator[Config]:
    """The config with other factors: all of them, else those that are called so."""

    def changed(value: Any, wanted: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: changed(one, wanted) if wanted(key, one) else one for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [changed(one, wanted) for one in value]
        return value * 1.25 + 0.5 if type(value) in (int, float) else value

    def is_factor(key: str, value: Any) -> bool:
        if isinstance(value, Mapping):
            return key in PARTS
        numbers = value if isinstance(value, list | tuple) else [value]
        floats = bool(numbers) and all(type(one) is float for one in numbers)
        scaling = SCALING.fullmatch(key) and all(type(one) in (int, float) for one in numbers)
        return bool(not SIZES.fullmatch(key) and (floats or scaling))

    def is_called_factor(key: str, value: Any) -> bool:
        return is_factor(key, value) and (isinstance(value, Mapping) or bool(SCALING.fullmatch(key)))

    yield changed(config, is_factor)
    yield changed(config, is_called_factor)


def _with(prog: Program, model_type: str, source: Source, config: Config) -> Source:
    try:
        return replace(source, config=config, model=probe(prog, model_type, config))
    except (Exception, SystemExit) as error:
        raise _UnbuiltError from error


def _origins(source: Source) -> dict[str, Origin | str]:
    try:
        return traced(source.shapes, source.model.fresh)
    except (Exception, SystemExit) as error:
        raise _UnbuiltError from error


def _differing(before: Mapping[str, Origin | str], after: Mapping[str, Origin | str]) -> str:
    """A parameter that is made otherwise; "" where there is none."""
    return next((name for name in sorted(before) if name in after and before[name] != after[name]), "")


def _default(prog: Program, model_type: str, place: str, key: str) -> bool:
    """What the program takes a switch for where config.json does not say."""
    module = prog.module(model_type)
    names = ("TextConfig", "TextArgs") if place in LANGUAGE[1:] else ()
    for name in (*names, "ModelArgs", "ModelConfig", "TextConfig", "TextArgs"):
        cls = getattr(module, name, None)
        for one in fields(cls) if is_dataclass(cls) else ():
            if one.name == key and one.default is not MISSING and isinstance(one.default, bool):
                return one.default
    return False


TIED = "tie_word_embeddings"
TIED_IN_PART = f"text_config.{TIED}|{TIED}"
"""The field of the language model's part, else of the root."""


def tie_field(prog: Program, model_type: str, source: Source) -> str:
    """Which field of config.json ties the output layer, where root and part may differ."""
    if not isinstance(source.config.get("text_config"), Mapping) or model_type in TIED_BY_ROOT:
        return TIED
    heads = []
    for root, part in ((True, False), (False, True)):
        config = copy.deepcopy(source.config)
        config[TIED], config["text_config"][TIED] = root, part
        try:
            parameters = probe(prog, model_type, config).parameters
        except (Exception, SystemExit):
            return TIED
        heads.append(any(name.endswith("lm_head.weight") for name in parameters))
    return TIED_IN_PART if heads == [True, False] else TIED


EMBEDDING = re.compile(
    r"(?!.*(vision|visual|audio|position|talker|tts|encoder_embed))(.*\.)?"
    r"(embed_tokens|wte|embeddings?|word_embeddings?|embed_in|tok_embeddings|emb|embed|embedder|tokens_embed)"
    r"\.weight"
)
"""What checkpoints call the embedding that an output layer may share."""


def embedding_of(source: Source) -> tuple[str, ...]:
    """The name of the language model's embedding in a checkpoint, if one name alone may be it."""
    found = [name for name, shape in source.shapes.items() if len(shape) == 2 and EMBEDDING.fullmatch(name)]
    return tuple(found) if len(found) == 1 else ()
