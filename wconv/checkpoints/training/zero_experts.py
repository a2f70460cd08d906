"""DeepSpeed's mixtures of experts: each rank has some experts of every layer, and saves each in a file.

`layer_1_expert_3_mp_rank_00_model_states.pt` holds an expert as the module has it. Under ZeRO 1 and 2 the
float32 values are in the ranks' shares, as those of all parameters: a group of experts is shared by the ranks
that have the same ones. They are taken from there, and compared with the files (DeepSpeed 0.19).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wconv.checkpoints.training.saved import RankFiles
from wconv.errors import FormatError
from wconv.formats import load_tree
from wconv.formats.torch.materialise import materialise
from wconv.formats.torch.objects import LEAVES, plain_number
from wconv.tensors.lazy import LazyTensor, Shape

FILE = re.compile(
    r"layer_(?P<layer>\d{1,6})_expert_(?P<expert>\d{1,6})_mp_rank_(?P<model>\d{2,4})_model_states\.pt"
)
"""An expert's file."""

NAME = re.compile(r"(?P<layer>.*\.deepspeed_experts\.)(?P<expert>\d{1,6})(?P<rest>\..*)")
"""A parameter of an expert: numbered within its rank in the shares, and through all ranks in the files."""

COMPARED = 4096
"""Elements of a parameter that are compared with its file."""


def is_group(shapes: Mapping[str, Shape]) -> bool:
    """Whether parameters are those of experts."""
    return bool(shapes) and all(NAME.fullmatch(name) for name in shapes)


def shares(held: Sequence[LazyTensor], count: Any, number: int, where: str) -> list[list[LazyTensor]]:
    """What the ranks hold of a group of experts, in a list for each set of experts, in the experts' order.

    Args:
        held: what every rank holds.
        count: DeepSpeed's `partition_count`: for each group, by how many ranks one set is shared.
        number: the group's.

    Raises:
        FormatError: it does not divide the ranks.
    """
    parts = plain_number(count[number]) if isinstance(count, list | tuple) and number < len(count) else None
    if type(parts) is not int or not 0 < parts <= len(held) or len(held) % parts:
        raise FormatError(f"{where} does not say which ranks share the experts of group {number}")
    sets = len(held) // parts
    return [list(held[first::sets]) for first in range(sets)]


def whole_name(name: str, shapes: Mapping[str, Shape], place: int) -> str:
    """The name that a parameter has in the whole model: its expert is numbered through all sets."""
    match = NAME.fullmatch(name)
    assert match is not None
    local = {
        int(one["expert"])
        for key in shapes
        if (one := NAME.fullmatch(key)) and one["layer"] == match["layer"]
    }
    return f"{match['layer']}{place * len(local) + int(match['expert'])}{match['rest']}"


def read(files: RankFiles, names: Sequence[str]) -> dict[str, LazyTensor]:
    """The experts' parameters as their files have them.

    Raises:
        FormatError: a file is damaged, one is missing, or two hold the same.
    """
    there: dict[int, set[int]] = {}
    found: dict[str, LazyTensor] = {}
    for name in names:
        match = FILE.fullmatch(name)
        assert match is not None
        if int(match["model"]):
            raise FormatError(
                f"{files.directory / name} is of a second tensor-parallel rank, which wconv cannot join"
            )
        there.setdefault(int(match["layer"]), set()).add(int(match["expert"]))
        path = files.path(name)
        root = load_tree(path)
        held = root if isinstance(root, dict) else {}
        if not held or not all(type(key) is str and isinstance(leaf, LEAVES) for key, leaf in held.items()):
            raise FormatError(f"{path} holds no expert of DeepSpeed's")
        for key, leaf in held.items():
            if key in found:
                raise FormatError(f"{path}: {key:.200} stands in another file too")
            found[key] = materialise(leaf)
    count = 1 + max((max(experts) for experts in there.values()), default=-1)
    for layer in range(1 + max(there, default=-1)):
        for expert in range(count):
            if expert not in there.get(layer, ()):
                gone = files.directory / f"layer_{layer}_expert_{expert}_mp_rank_00_model_states.pt"
                raise FormatError(f"{gone} is missing: copy the files of all ranks")
    return found


def check(root: Mapping[str, LazyTensor], experts: Mapping[str, LazyTensor], where: str) -> None:
    """Compares the beginnings of experts' float32 values with the experts' files.

    Raises:
        FormatError: they are other ones, or of other experts.
    """
    for name in root:
        if NAME.fullmatch(name) and name not in experts:
            raise FormatError(
                f"{where}: {name:.200} is in the file of no expert: copy the files of all ranks"
            )
    for name, tensor in experts.items():
        full = root.get(name)
        if full is None:
            raise FormatError(f"{where}: no rank has the float32 values of {name:.200}")
        count = min(COMPARED, tensor.size)
        cast = full.cast(tensor.dtype.name)
        if (
            full.shape != tensor.shape
            or cast.read_range(0, count).tobytes() != tensor.read_range(0, count).tobytes()
        ):
            raise FormatError(
                f"{where}: {name:.200} is another in its expert's file than in the ranks' shares: the files"
                " are of different checkpoints, or of ranks in an order that wconv does not know"
            )
