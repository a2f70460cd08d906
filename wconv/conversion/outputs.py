"""Where the result goes, and how it is loaded from there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wconv.consumers import registry
from wconv.consumers.mlx.files import LOAD_FILE
from wconv.conversion.report import command_for
from wconv.errors import OutputError, WconvError
from wconv.stores import stand_ins
from wconv.writing import file_formats

LOAD_DISTRIBUTED = "torch.distributed.checkpoint.load(state_dict, checkpoint_id='{model}')"
"""Loads a distributed checkpoint into a state dict of the model's own."""


def default_output(
    source: Path,
    mark: str = registry.DEFAULT_SUFFIX,
    suffix: str = ".safetensors",
    *,
    directory: bool = False,
) -> Path:
    """`X-MLX` beside a directory `X` (for a hub cache: in the working directory, by the model's name);
    `x.safetensors` beside a file, `x-MLX.safetensors` when it is safetensors itself. A mark "HF" takes the
    place of "MLX", another `suffix` that of ".safetensors". With `directory`, a directory `x-MLX` beside a
    file. What is elsewhere has its result in the working directory."""
    here = Path() if stand_ins.is_within(source) else source.parent
    if source.is_dir():
        real = source.resolve()
        repository = real.parent.parent.name
        if real.parent.name == "snapshots" and repository.startswith("models--"):
            return Path(_marked(repository.split("--")[-1], mark))
        place = source if source.name not in ("", "..") else real
        if not place.name:
            raise WconvError(f"{source} has no name to call the result by: add --output")
        return (here if place == source else place.parent) / _marked(place.name, mark)
    if directory:
        return here / _marked(source.stem, mark)
    stem = _marked(source.stem, mark) if source.suffix == suffix else source.stem
    return here / (stem + suffix)


def _marked(name: str, mark: str) -> str:
    default = registry.DEFAULT_SUFFIX
    return (name.removesuffix(f"-{default}") if mark != default else name) + "-" + mark


def check_apart(sources: Iterable[Path], target: Path) -> None:
    """Refuses a target that is, holds or lies in what is read. Raises: OutputError."""
    goal = target.resolve()
    for source in sources:
        real = source.resolve()
        if goal == real or goal.is_relative_to(real):
            raise OutputError(f"{target} is the source itself, or within it: choose another --output")
        if real.is_relative_to(goal):
            raise OutputError(f"{target} holds {source}, which is read: choose another --output")


def command(template: str, target: Path) -> str:
    """What loads the result; `template` is the consumer's own command; "" where none is known."""
    if target.name.endswith(file_formats.PT.suffixes):
        return f"torch.load({str(target)!r}, weights_only=True, mmap=True)"
    if target.suffix == ".safetensors" and template not in registry.adapter_commands():
        return command_for(LOAD_FILE, target)
    return command_for(template, target)
