"""`doctor`: would a program load this directory, and what mends it where it would not."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv import opening
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import load_commands
from wconv.consumers.consumer import Consumer
from wconv.consumers.lay_out import NoLayoutError
from wconv.consumers.layout_choice import choose_layout
from wconv.conversion.options import ConvertOptions
from wconv.conversion.prepare import plan
from wconv.errors import FormatError, LayoutError, WconvError, require_name
from wconv.examine.doctor import config as configs
from wconv.examine.doctor import files
from wconv.examine.doctor.problem import LEVELS, Problem, converting
from wconv.formats.side_files import read_json
from wconv.layouts.apply import ConvertedInPartError, is_converted
from wconv.layouts.conditions import Context
from wconv.layouts.rules import TracedTensor
from wconv.quantized.names import recognise
from wconv.wording import fitted, plural


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found in a directory.

    Attributes:
        program, version: for which program, in the version whose facts are known.
        problems: the worst first.
    """

    path: Path
    program: str
    version: str
    problems: tuple[Problem, ...]

    def __repr__(self) -> str:
        return fitted(
            f"<Diagnosis of {self.path} for {self.program}: {plural(len(self.problems), 'problem')}>"
        )

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is known that keeps the program from loading the model."""
        return all(problem.level == "note" for problem in self.problems)

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        for problem in self.problems:
            yield f"{problem.level:5}  {problem.file}: {problem.text}"
            if problem.command:
                yield f"       mend it: {problem.command}"
            elif problem.edit:
                yield f"       mend it: {problem.edit}"
        whom = f"{self.program} {self.version}"
        counts = [(sum(one.level == level for one in self.problems), level) for level in LEVELS]
        said = ", ".join(f"{count} {level}" for count, level in counts if count)
        if self.is_healthy:
            yield f"{self.path}: {whom} loads it, by all that is known{f' ({said})' if said else ''}"
        elif counts[0][0]:
            yield f"{self.path}: {whom} does not load it ({said})"
        else:
            yield f"{self.path}: {whom} does not load it, or not as the model that it is ({said})"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return {
            "path": str(self.path),
            "program": self.program,
            "version": self.version,
            "healthy": self.is_healthy,
            "problems": [problem.to_dict() for problem in self.problems],
        }


def doctor(path: str | os.PathLike[str], program: str | None = None) -> Diagnosis:
    """Looks through a model's directory for what a program would stumble over. No weight is read.

    Args:
        path: the directory.
        program: the program's name; the likeliest for the model when absent.

    Raises:
        FormatError: it is not a directory, or cannot be read.
        WconvError: there is no such program, or nothing is known of what it looks for.
    """
    require_name(path, kind=FormatError)
    directory = Path(path)
    if not directory.is_dir():
        what = "is a file: name the directory that it is in" if directory.exists() else "does not exist"
        raise FormatError(f"{directory} {what}")
    names = sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
    config, found = _config(directory, names)
    consumer = _program(program, config)
    found += _looked(directory, names, config, consumer) if not found else []
    found.sort(key=lambda problem: LEVELS.index(problem.level))
    version = consumer.known_models().version if consumer.known_models is not None else ""
    return Diagnosis(directory, consumer.name, version, tuple(found))


def _config(directory: Path, names: list[str]) -> tuple[dict[str, Any], list[Problem]]:
    if configs.CONFIG not in names:
        text = "is not there: programs read it first"
        if "params.json" in names:
            return {}, [Problem("config", "error", configs.CONFIG, text, converting(directory))]
        edit = f"copy {configs.CONFIG} into {directory} from where the weights come from"
        return {}, [Problem("config", "error", configs.CONFIG, text, edit=edit)]
    try:
        return read_json(directory / configs.CONFIG), []
    except WconvError as error:
        edit = f"copy {configs.CONFIG} into {directory} from where the weights come from"
        return {}, [Problem("config", "error", configs.CONFIG, _about(error, directory), edit=edit)]


def _program(name: str | None, config: Mapping[str, Any]) -> Consumer:
    known = files.programs()
    if name is not None:
        found = next((one for one in known if one.layout_name == name), None)
        if found is None:
            raise WconvError(
                f"--for {name:.60}: it is known of {', '.join(one.name for one in known)} what they need"
            )
        return found
    likely = [one for one in load_commands.likeliest_first(config) if one in known]
    model_type = str(config.get("model_type") or "")
    return next((one for one in likely if load_commands.knows(one, model_type)), likely[0])


def _looked(
    directory: Path, names: list[str], config: Mapping[str, Any], consumer: Consumer
) -> list[Problem]:
    needs = consumer.needs
    assert needs is not None
    found = [*_model_type(directory, config, consumer)]
    if not found:
        found += configs.fields(directory, config, consumer)
    found += configs.tagged_floats(config, consumer)
    found += files.tokenizer(directory, names, needs)
    found += files.chat_template(directory, names)
    found += files.processor(directory, names, config, consumer, needs)
    lacking = list(files.weights(directory, names, consumer, needs))
    found += lacking
    if not any(problem.level == "error" or problem.check == "index" for problem in lacking):
        found += _of_weights(directory, config, consumer, whole=not found or found[0].check != "model type")
    return found


def _model_type(directory: Path, config: Mapping[str, Any], consumer: Consumer) -> Iterator[Problem]:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        edit = f"copy {configs.CONFIG} into {directory} from where the weights come from"
        yield Problem("model type", "error", configs.CONFIG, "says no model_type", edit=edit)
        return
    if load_commands.knows(consumer, model_type) or consumer.known_models is None:
        return
    whom = f"{consumer.name} {consumer.known_models().version}"
    text = f"says model_type {model_type[:80]}, which {whom} does not have"
    other = next((one for one in files.programs() if load_commands.knows(one, model_type)), None)
    if other is not None:
        command = f"wconv doctor {shlex.quote(str(directory))} --for {other.layout_name}"
        yield Problem("model type", "error", configs.CONFIG, f"{text}; {other.name} does", command)
    else:
        yield Problem("model type", "error", configs.CONFIG, text)


def _of_weights(
    directory: Path, config: Mapping[str, Any], consumer: Consumer, *, whole: bool
) -> Iterator[Problem]:
    """What is wrong with the tensors themselves, as far as headers tell it."""
    try:
        opened = opening.open(directory, skip_unreadable=True)
    except WconvError as error:
        edit = f"copy the weights into {directory} from where they come from, again"
        yield Problem("weights", "error", directory.name, _about(error, directory), edit=edit)
        return
    scheme = recognise(opened.tensors, config)
    name = scheme.scheme.name if scheme is not None else ""
    said = list(configs.quantization(directory, opened, config, consumer, name))
    yield from said
    refused = {row.source for row in consumer.substitutes if row.why.startswith("mx.load refuses")}
    odd = next((one for one, tensor in opened.items() if tensor.dtype.name in refused), None)
    if odd is not None:
        text = f"{odd[:120]} is {opened[odd].dtype.name}, which {consumer.name} cannot read"
        yield Problem("dtype", "error", directory.name, text, converting(directory))
    if whole and not said:
        yield from _fit(directory, opened, config, consumer)


def _fit(
    directory: Path, opened: Checkpoint, config: Mapping[str, Any], consumer: Consumer
) -> Iterator[Problem]:
    """Tensors that are missing, too many, or of other shapes than config.json says."""
    try:
        plan(directory, None, ConvertOptions(layout=consumer.layout_name))
    except NoLayoutError:
        return
    except LayoutError as error:
        edit = "take config.json and weights of one model, complete"
        yield Problem("weights", "error", directory.name, _about(error, directory), edit=edit)
        return
    except WconvError:
        return
    if consumer.needs is None or not consumer.needs.trusting or opened.metadata.get("format") != "mlx":
        return
    table = choose_layout(consumer.layout_name, config, opened.tensors)
    state = {name: TracedTensor(tensor, (name,)) for name, tensor in opened.items()}
    try:
        if table is None or not table.rules or is_converted(table, state, Context(config, {})):
            return
    except ConvertedInPartError:
        return
    whom = f"{consumer.name} {consumer.needs.trusting}"
    text = f"says format mlx in its header, and names are the hub's: {whom} does not load that"
    yield Problem("header", "note", opened.files[0].name, text, converting(directory))


def _about(error: WconvError, directory: Path) -> str:
    """What an error says, without where it is and without advice on converting."""
    text = (
        str(error)
        .partition("; --layout")[0]
        .partition("; keep all names")[0]
        .partition("; leave them out")[0]
    )
    return text.removeprefix(f"{directory}/").removeprefix(f"{directory}: ").removeprefix(f"{directory} ")
