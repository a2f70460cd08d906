"""One file for each rank, whose tensors are parts of distributed ones: `model_world_size_4_rank_0.pt`.

Each value is a `DTensor`: the part, and how the whole is spread over a mesh of devices. Where a part lies
follows from the rank's place in the mesh, cut after cut, as torch computes it (torch 2.13,
`distributed/tensor/_utils.py`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wconv.checkpoints.training.saved import RankFiles
from wconv.errors import FormatError
from wconv.formats import load_tree
from wconv.formats.torch.materialise import materialise
from wconv.formats.torch.objects import (
    LEAVES,
    JoinedTensor,
    LostTensor,
    OrderedDict,
    Record,
    ShardedPart,
    TensorPart,
    TorchTensor,
    UnavailableError,
)
from wconv.tensors.lazy import Shape
from wconv.tensors.pieces import Piece, joined

RANK = re.compile(r"(?P<stem>[a-z_]*model)_world_size_(?P<world>\d{1,7})_rank_(?P<rank>\d{1,7})\.pt")
"""A rank's file."""

AXES = 8
"""Axes of a mesh of devices."""

Run = tuple[int, int]
"""Consecutive positions along an axis: the first one, and how many."""


def find(directory: Path, names: Sequence[str]) -> list[str]:
    """The ranks' files among those of a directory, in the order of the ranks."""
    found = [(int(match["rank"]), name) for name in names if (match := RANK.fullmatch(name))]
    return [name for _, name in sorted(found)]


def read(directory: Path, names: Sequence[str]) -> tuple[Any, RankFiles]:
    """The state dict that the ranks' files make together, and the files.

    Raises:
        FormatError: a rank's file is missing or damaged, or the parts do not fit each other.
        UnsafeError: a file asks for something that no weights need.
    """
    files = RankFiles(directory, names[0])
    check_complete(directory, names)
    roots = [load_tree(files.path(name)) for name in names]
    _refuse_flat(roots[0], directory / names[0])
    return merged(roots, "", str(directory), Spreading()), files


FLAT = "_flat_param"
"""How the flat parameter of a module of FSDP's first form is called."""


def _refuse_flat(root: Any, path: Path) -> None:
    """Refuses `LOCAL_STATE_DICT`, of which nothing says what the parameters are. Raises `FormatError`."""
    for value in (root, *(root.values() if type(root) in (dict, OrderedDict) else ())):
        for name in value if type(value) in (dict, OrderedDict) else ():
            if type(name) is str and name.rpartition(".")[2] == FLAT:
                raise FormatError(
                    f"{path} holds flat parameters ({name:.100}) and does not say of which tensors, of which"
                    " shapes, they are made: save it with FSDP's SHARDED_STATE_DICT or FULL_STATE_DICT"
                )


def check_complete(directory: Path, names: Sequence[str]) -> None:
    """Refuses sets of files of which one is missing. Raises `FormatError`."""
    told = [match for name in names if (match := RANK.fullmatch(name))]
    first = told[0]
    if len({(match["stem"], match["world"]) for match in told}) > 1:
        raise FormatError(f"{directory} mixes rank files of several sets ({names[0]}, {names[-1]}): keep one")
    there = {int(match["rank"]) for match in told}
    for rank in range(int(first["world"])):
        if rank not in there:
            gone = f"{first['stem']}_world_size_{first['world']}_rank_{rank}.pt"
            raise FormatError(f"{directory / gone} is missing: copy the files of all ranks")


Boxes = list[tuple[Shape, Shape, Shape]]
"""What a part holds of a whole: where each box begins in the whole, and in the part begins and ends."""


class Spreading:
    """How parts lie in wholes, by the identity of what describes it: many tensors share one.

    Attributes:
        meshes: each rank's place along each axis of a mesh, and the axis's length.
        boxes: what a part of a whole of that shape holds.
    """

    def __init__(self) -> None:
        self.meshes: dict[int, list[tuple[int, int]] | None] = {}
        self.boxes: dict[tuple[int, Shape], tuple[Shape, Boxes]] = {}


def merged(values: Sequence[Any], name: str, where: str, spread: Spreading) -> Any:
    """What the values of all ranks at one place are together; the first one's where they are no tensors."""
    first = values[0]
    if type(first) in (dict, OrderedDict):
        made: dict[Any, Any] = {}
        for key in dict.fromkeys(
            key for value in values if type(value) in (dict, OrderedDict) for key in value
        ):
            inner = f"{name}.{key}" if name else str(key)
            held = [value.get(key) if type(value) in (dict, OrderedDict) else None for value in values]
            if any(isinstance(item, LEAVES) for item in held):
                if any(not isinstance(item, LEAVES) for item in held):
                    rank = next(at for at, item in enumerate(held) if not isinstance(item, LEAVES))
                    raise FormatError(f"{where}: rank {rank} has no {inner:.200}, which others have")
                made[key] = whole(held, inner, where, spread)
            else:
                there = [item for item in held if item is not None]
                made[key] = (
                    merged(there, inner, where, spread) if len(there) == len(values) else there and there[0]
                )
        return made
    return first


def whole(parts: Sequence[Any], name: str, where: str, spread: Spreading) -> Any:
    """The tensor that the parts of all ranks are, in the order of the ranks."""
    lost = next((part for part in parts if type(part) is LostTensor), None)
    if lost is not None:
        return lost
    sharded = [part for part in parts if type(part) in (TensorPart, ShardedPart)]
    if not sharded:
        return _replicated(parts, name, where)
    shape = sharded[0].shape
    if any(part.shape != shape for part in sharded):
        raise FormatError(f"{where}: the ranks hold parts of different tensors as {name:.200}")
    pieces: list[Piece] = []
    for rank, part in enumerate(parts):
        try:
            if type(part) is TensorPart:
                pieces += _pieces(part, rank, name, where, spread)
            elif type(part) is ShardedPart:
                pieces += [Piece(begin, materialise(tensor)) for begin, tensor in part.shards]
            else:
                pieces.append(Piece((0,) * len(shape), materialise(part)))
        except UnavailableError as error:
            return LostTensor(str(error))
    if not pieces:
        raise FormatError(f"{where}: no rank holds anything of {name:.200}")
    return JoinedTensor(joined(pieces, pieces[0].tensor.dtype, shape, name, where))


def _replicated(parts: Sequence[Any], name: str, where: str) -> Any:
    """What every rank holds whole: compared when it is read."""
    if type(parts[0]) is not TorchTensor or len(parts) == 1:
        return parts[0]
    try:
        held = [materialise(part) for part in parts]
    except UnavailableError as error:
        return LostTensor(str(error))
    if len({tensor.shape for tensor in held}) > 1:
        return LostTensor(
            f"the ranks hold tensors of different shapes, {held[0].shape!r:.60} and others, and do not say"
            " of what these are parts"
        )
    pieces = [Piece((0,) * tensor.ndim, tensor) for tensor in held]
    return JoinedTensor(joined(pieces, held[0].dtype, held[0].shape, name, where))


def _pieces(part: TensorPart, rank: int, name: str, where: str, spread: Spreading) -> Iterator[Piece]:
    """The boxes of the whole that a rank's part holds: several where a cut goes through each of several."""
    local = materialise(part.local)
    key = id(part.spec), part.shape
    found = spread.boxes.get(key)
    if found is None:
        found = spread.boxes[key] = _boxes(part, rank, spread)
    sizes, boxes = found
    if sizes != local.shape:
        raise FormatError(
            f"{where}: rank {rank} holds {local.shape!r:.60} of {name:.200}, whose placements ask for"
            f" {sizes!r:.60}"
        )
    if len(boxes) == 1:
        yield Piece(boxes[0][0], local)
        return
    for begin, first, last in boxes:
        tensor = local
        for axis in range(len(first)):
            tensor = tensor.slice(axis, first[axis], last[axis])
        yield Piece(begin, tensor)


def _boxes(part: TensorPart, rank: int, spread: Spreading) -> tuple[Shape, Boxes]:
    """The shape of what a rank holds, and the boxes. Raises `UnavailableError`."""
    spec = part.spec
    placements: Any = spec.attributes.get("placements") if type(spec) is Record else None
    described = spec.attributes.get("mesh") if type(spec) is Record else None
    if id(described) not in spread.meshes:
        spread.meshes[id(described)] = _mesh(described, rank)
    mesh = spread.meshes[id(described)]
    if type(placements) not in (tuple, list) or mesh is None or len(placements) != len(mesh):
        raise UnavailableError("it is a DTensor that does not say how it is spread")
    runs: list[list[Run]] = [[(0, length)] for length in part.shape]
    for (place, size), placement in zip(mesh, placements, strict=True):
        kind = placement.class_name.rpartition(".")[2].strip("_") if type(placement) is Record else ""
        if kind == "Replicate":
            continue
        if kind == "Partial" and size == 1:
            continue
        if kind not in ("Shard", "StridedShard"):
            raise UnavailableError(f"it is a DTensor of which each device holds a summand ({kind or '?'})")
        axis, factor = _cut(placement)
        if not 0 <= axis < len(runs) or not 0 < factor <= 2**31:
            raise UnavailableError("it is a DTensor that is cut along an axis that it does not have")
        runs[axis] = _strided(runs[axis], size, place, factor)
    if math.prod(map(len, runs)) > 100_000:
        raise UnavailableError("it is a DTensor of too many pieces")
    ends = [itertools.accumulate(length for _, length in each) for each in runs]
    placed = [
        [(begin, end - length, end) for (begin, length), end in zip(each, until, strict=True)]
        for each, until in zip(runs, ends, strict=True)
    ]
    boxes: Boxes = []
    for box in itertools.product(*placed):
        begins, firsts, lasts = zip(*box, strict=True) if box else ((), (), ())
        boxes.append((tuple(begins), tuple(firsts), tuple(lasts)))
    return tuple(sum(length for _, length in each) for each in runs), boxes


def _cut(placement: Record) -> tuple[int, int]:
    """The axis that a placement cuts, and in how many parts it was cut before by what comes later."""
    state = placement.attributes
    args = placement.args if type(placement.args) is tuple else ()
    if args and type(args[0]) is tuple:
        # called with names: (arguments, names)
        named = args[1] if len(args) > 1 and type(args[1]) is dict else {}
        state, args = {**state, **named}, args[0]
    axis = state.get("dim", args[0] if args else None)
    factor = state.get("split_factor", args[1] if len(args) > 1 else 1)
    return (axis, factor) if type(axis) is int and type(factor) is int else (-1, 0)


def chunk(length: int, count: int, index: int) -> Run:
    """Where `torch.chunk` cuts: the first position, and how many."""
    step = -(-length // count)
    begin = min(index * step, length)
    return begin, min(begin + step, length) - begin


def _strided(runs: Sequence[Run], count: int, index: int, factor: int) -> list[Run]:
    """The positions that are left of some by a cut into `count`: of each of `factor` parts, one share."""
    length = sum(size for _, size in runs)
    found: list[Run] = []
    for at in range(min(factor, max(length, 1))):
        begin, size = chunk(length, factor, at)
        inner, share = chunk(size, count, index)
        found += _within(runs, begin + inner, share)
    return found


def _within(runs: Sequence[Run], begin: int, size: int) -> Iterator[Run]:
    """The runs of `size` positions from the `begin`-th of some on."""
    for first, length in runs:
        if size and begin < length:
            taken = min(length - begin, size)
            yield first + begin, taken
            size -= taken
        begin = max(begin - length, 0)


def _mesh(mesh: Any, rank: int) -> list[tuple[int, int]] | None:
    """A rank's place along each axis of a mesh, and the axis's length; None where the mesh does not say."""
    if type(mesh) is not Record:
        return None
    held = mesh.attributes
    whole = held.get("mesh")
    if type(whole) is TorchTensor:
        if len(whole.shape) > AXES or math.prod(whole.shape) > 10**7:
            return None
        ranks = materialise(whole).numpy()
        places = (ranks == rank).nonzero()
        if not ranks.ndim or not len(places[0]):
            return None
        return [(int(at[0]), size) for at, size in zip(places, ranks.shape, strict=True)]
    layout, flat = held.get("_layout"), held.get("_rank_map")
    if type(layout) is not Record or type(flat) is not TorchTensor or math.prod(flat.shape) > 10**7:
        return None
    ranks = materialise(flat).read_range()
    places = (ranks == rank).nonzero()[0]
    axes = _axes(layout)
    if not len(places) or axes is None:
        return None
    found: list[tuple[int, int]] = []
    for axis in axes:
        at, size = 0, 1
        for length, stride in axis:
            at = at * length + int(places[0]) // stride % length
            size *= length
        found.append((at, size))
    return found


def _axes(layout: Record) -> list[list[tuple[int, int]]] | None:
    """Lengths and strides of a mesh's axes, each of which may be of several."""
    parts = layout.attributes.get("axes")
    pairs: list[tuple[Any, Any]]
    if type(parts) is tuple:
        pairs = [
            (part.attributes.get("shape"), part.attributes.get("stride"))
            for part in parts
            if type(part) is Record
        ]
        if len(pairs) != len(parts):
            return None
    else:
        shape, stride = layout.attributes.get("shape"), layout.attributes.get("stride")
        if type(shape) is int:
            shape, stride = (shape,), (stride,)
        if type(shape) is not tuple or type(stride) is not tuple or len(shape) != len(stride):
            return None
        pairs = list(zip(shape, stride, strict=True))
    axes: list[list[tuple[int, int]]] = []
    for shape, stride in pairs[: AXES + 1]:
        lengths = shape if type(shape) is tuple else (shape,)
        steps = stride if type(stride) is tuple else (stride,)
        if len(lengths) != len(steps) or len(lengths) > AXES:
            return None
        if any(type(one) is not int or not 0 < one < 2**31 for one in (*lengths, *steps)):
            return None
        axes.append(list(zip(lengths, steps, strict=True)))
    return axes
