"""`--verify=load`: the program that a result is for loads it itself, and runs one forward pass."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from wconv.consumers import load_commands, registry
from wconv.consumers.consumer import Consumer
from wconv.conversion.planned import Conversion
from wconv.errors import FormatError, WconvError, message
from wconv.formats.side_files import read_json
from wconv.wording import fitted

OWN_CODE = "model_file"
"""The field of a config by which programs run a directory's own code without being asked to."""


@dataclass(frozen=True, slots=True)
class LoadCheck:
    """What a program made of a result.

    Attributes:
        output: the result's directory.
        program: its name and version.
        parameters: elements of all parameters, as it holds them.
        logits: the shape of what one forward pass gave; empty where it failed before.
        not_finite: how many logits are NaN or infinite.
        error: what the program said; "" where it loaded the model and ran it.
    """

    output: Path
    program: str
    parameters: int = 0
    logits: tuple[int, ...] = ()
    not_finite: int = 0
    error: str = ""

    def __repr__(self) -> str:
        return fitted(f"<LoadCheck of {self.output}: {'loads' if self.loads else 'does not load'}>")

    @property
    def loads(self) -> bool:
        """Whether the program loaded it, and all that it computed is finite."""
        return not self.error and not self.not_finite

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        if self.error:
            yield f"{self.output}: {self.program} does not load it: {self.error}"
            return
        shape = " x ".join(f"{length:,}" for length in self.logits)
        loaded = f"{self.output}: {self.program} loads it: {self.parameters:,} parameters"
        if self.not_finite:
            yield f"{loaded}, but of {shape} logits {self.not_finite:,} are NaN or infinite"
        else:
            yield f"{loaded}, {shape} finite logits in one forward pass"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return {"loads": self.loads, **asdict(self), "output": str(self.output), "logits": list(self.logits)}


def load_check(output: str | os.PathLike[str], consumer: str | None = None) -> LoadCheck:
    """Has the program that a result is for load it, in memory, and run one forward pass.

    Args:
        output: a directory that a conversion wrote.
        consumer: the program's name; by default the likeliest of those that know its model type.

    Raises:
        WconvError: which program loads it is not known, the program is not installed, or the directory has
            code of its own, which would be run.
    """
    place = Path(output)
    if not place.is_dir():
        raise FormatError(f"{place} is not a directory: only directories with a config.json are loaded")
    config = _json(place / "config.json")
    _check_code(place, config)
    _check_code(place, _json(place / "generation_config.json"))
    found = loading_program(consumer, config)
    check_installed(found)
    assert found.loader is not None
    program = f"{found.name} {importlib.metadata.version(found.package[0])}"
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            loaded = found.loader()(place.resolve())
    except Exception as error:
        # whatever a program raises, it did not load the model
        return LoadCheck(place, program, error=message(f"{type(error).__name__}: {error}"))
    return LoadCheck(place, program, loaded.parameters, loaded.logits, loaded.not_finite)


def loading_program(consumer: str | None, config: Mapping[str, Any]) -> Consumer:
    """The program that loads a result.

    Args:
        consumer: its name, where the result has its layout.
        config: the result's config.json.

    Raises:
        WconvError: none is known whose loader can be run here.
    """
    named = registry.find_consumer(consumer) if consumer else None
    if named is not None and named.loader is not None:
        return named
    if named is not None and named.layout_name != "hf":
        raise WconvError(
            f"how {named.name} loads a model is not known here: --verify alone compares the bytes"
        )
    model_type = json.dumps(config.get("model_type"))
    for one in load_commands.likeliest_first(config):
        if one.loader is not None and not load_commands.doubt(one, config):
            return one
    raise WconvError(
        f"no program is known here that loads such a model (model_type {model_type:.80}): --verify alone"
        " compares the bytes"
    )


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _check_code(place: Path, config: Mapping[str, Any]) -> None:
    if config.get(OWN_CODE):
        raise WconvError(
            f"{place} names code of its own (config.json: {OWN_CODE}), which loading it would run: it is not"
            " loaded here; wconv scan shows what would run"
        )


def check_loadable(planned: Conversion) -> None:
    """Refuses, before anything is written, what `load_check` would refuse of the result.

    Raises:
        WconvError: as `load_check` does.
    """
    if planned.parts or planned.config is None:
        raise WconvError(
            f"{planned.report.output} has no config.json for a program to load it by: --verify alone compares"
            " the bytes"
        )
    _check_code(planned.checkpoint.path, planned.config)
    check_installed(loading_program(planned.report.layout, planned.config))


def check_installed(consumer: Consumer) -> None:
    """Refuses a program that is not here. Raises `WconvError`."""
    package, module = consumer.package
    if importlib.util.find_spec(module) is None:
        raise WconvError(
            f"loading it with {consumer.name} needs {consumer.name}, which is not installed: pip install"
            f" {package}"
        )
