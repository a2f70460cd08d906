"""What a program would find in a directory: weights, an index, a tokenizer, how pictures are prepared."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wconv.checkpoints.index import read_index
from wconv.checkpoints.weights_files import is_weights
from wconv.consumers import registry
from wconv.consumers.consumer import Consumer
from wconv.consumers.needs import Needs
from wconv.errors import WconvError
from wconv.examine.doctor.problem import Level, Problem, converting, fetching, putting_aside
from wconv.formats import safetensors
from wconv.formats.side_files import read_json

INDEX = "model.safetensors.index.json"
"""The index that programs look for."""

TEMPLATES = ("chat_template.jinja", "chat_template.json")
"""Files with a chat template; tokenizer_config.json may have one, too."""


def weights(directory: Path, names: list[str], consumer: Consumer, needs: Needs) -> Iterator[Problem]:
    """Weights that the program does not find, and such as it finds and should not."""
    try:
        listed = read_index(directory, INDEX) if INDEX in names else {}
    except WconvError as error:
        why = str(error).removeprefix(f"{directory / INDEX} ")
        # one that is no JSON is passed over; one that says something odd may not be
        level: Level = "wrong" if needs.follows_index and not _not_json(directory / INDEX) else "note"
        text = f"{why}; without it, {consumer.name} takes {', '.join(needs.weights)}"
        yield Problem("index", level, INDEX, text, putting_aside(directory, INDEX))
        return
    read = needs.reads(names)
    missing = sorted(set(listed.values()) - set(names)) if listed else []
    others = [name for name in names if name not in read and is_weights(name)]
    if not read:
        yield _none(directory, others, consumer, needs)
    elif listed and set(missing) == set(listed.values()):
        text = f"{INDEX} lists files of which none is there; {consumer.name} takes {read[0]}"
        yield Problem("index", "note", INDEX, text, putting_aside(directory, INDEX))
    elif missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        edit = f"copy {missing[0]}{more} into {directory} from where the other files come from"
        yield Problem("index", "error", missing[0], f"is not there, and {INDEX} lists it{more}", edit=edit)
    elif listed and not needs.follows_index:
        yield from _stale(directory, read, listed, consumer)


def _none(directory: Path, others: list[str], consumer: Consumer, needs: Needs) -> Problem:
    text = f"holds no weights that {consumer.name} reads ({', '.join(needs.weights)})"
    if not others:
        edit = f"copy the weights into {directory} from where config.json comes from"
        return Problem("weights", "error", directory.name, text, edit=edit)
    text = f"{text}: there is {others[0]}"
    if len(others) == 1 and others[0].endswith(".safetensors"):
        old, new = (shlex.quote(str(directory / name)) for name in (others[0], "model.safetensors"))
        return Problem("weights", "error", directory.name, text, f"mv -- {old} {new}")
    return Problem("weights", "error", directory.name, text, converting(directory))


def _stale(
    directory: Path, read: list[str], listed: Mapping[str, str], consumer: Consumer
) -> Iterator[Problem]:
    """Files that the index does not list and that the program loads all the same."""
    for name in sorted(set(read) - set(listed.values())):
        try:
            held = safetensors.open_file(str(directory / name)).tensors
        except WconvError as error:
            why = str(error).removeprefix(f"{directory}/")
            text = f"is loaded by {consumer.name} too, and cannot be read: {why}"
            yield Problem("stale shard", "error", name, text, putting_aside(directory, name))
            continue
        twice = next((one for one in held if one in listed), None)
        what = (
            f"and takes {twice:.100} of it or of {listed[twice]}"
            if twice
            else "with names that are in no other"
        )
        text = f"is not in {INDEX}, but {consumer.name} loads it too, {what}"
        yield Problem("stale shard", "wrong", name, text, putting_aside(directory, name))


def tokenizer(directory: Path, names: list[str], needs: Needs) -> Iterator[Problem]:
    """A tokenizer that is missing, or there in part."""
    if "tokenizer.json" in names and (why := _not_json(directory / "tokenizer.json")):
        yield Problem("tokenizer", "error", "tokenizer.json", why, **fetching(directory, "tokenizer.json"))
        return
    if any(set(group) <= set(names) for group in needs.tokenizer) or any(
        one.endswith(".tiktoken") for one in names
    ):
        return
    half = next((group for group in needs.tokenizer if set(group) & set(names)), None)
    if half is not None:
        gone = next(name for name in half if name not in names)
        there = next(name for name in half if name in names)
        mend = fetching(directory, gone)
        yield Problem(
            "tokenizer", "error", gone, f"is not there, and {there} is of no use without it", **mend
        )
        return
    wanted = " or ".join(" with ".join(group) for group in needs.tokenizer[:3])
    mend = fetching(directory, "tokenizer.json", "tokenizer_config.json")
    text = f"holds no tokenizer ({wanted}, …): the program fails, or makes an empty one"
    yield Problem("tokenizer", "wrong", directory.name, text, **mend)


def chat_template(directory: Path, names: list[str]) -> Iterator[Problem]:
    """No template, so that prompts are not put into the form that the model was trained with."""
    if any(name in names for name in TEMPLATES) or "chat_templates" in names:
        return
    if "tokenizer_config.json" in names:
        try:
            if read_json(directory / "tokenizer_config.json").get("chat_template"):
                return
        except WconvError as error:
            yield Problem("tokenizer", "wrong", "tokenizer_config.json", str(error))
            return
    text = "holds no chat template: prompts are taken as they are, as base models want it"
    mend = fetching(directory, TEMPLATES[0])
    yield Problem("chat template", "note", directory.name, text, **mend)


def processor(
    directory: Path, names: list[str], config: Mapping[str, Any], consumer: Consumer, needs: Needs
) -> Iterator[Problem]:
    """Nothing that says how pictures and sounds are prepared, of a model that takes some."""
    if not any(config.get(name) for name in consumer.multimodal_fields):
        return
    there = [name for name in needs.processor if name in names]
    for name in there:
        if why := _not_json(directory / name):
            yield Problem("processor", "error", name, why, **fetching(directory, name))
    if needs.processor and not there:
        text = (
            f"holds no {' or '.join(needs.processor)}: pictures are prepared by what is usual,"
            " not as the model was trained"
        )
        yield Problem("processor", "wrong", directory.name, text, **fetching(directory, needs.processor[0]))


def _not_json(path: Path) -> str:
    """Why a file is not JSON; "" where it is."""
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        return f"is not JSON: {str(error)[:100]}"
    return ""


def programs() -> list[Consumer]:
    """The programs of which is known what they look for."""
    return [one for one in registry.CONSUMERS if one.needs is not None and one.known_models is not None]
