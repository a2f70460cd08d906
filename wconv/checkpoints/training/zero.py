"""DeepSpeed's ZeRO: every rank's file holds its share of flat vectors in which the parameters lie in a row.

`*_model_states.pt` say which parameters there are, in which order and of which shapes; `*_optim_states.pt`
hold the float32 shares. Stages 1 and 2 cut the vector of each parameter group into one share for each rank;
stage 3 cuts each parameter. The result is that of DeepSpeed's `zero_to_fp32.py` (0.19), value for value.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wconv.checkpoints.training import zero_experts as experts
from wconv.checkpoints.training.saved import RankFiles, is_below
from wconv.checkpoints.training.zero_rows import cut_row, gaps, row, vector
from wconv.errors import FormatError
from wconv.formats import load_tree
from wconv.formats.torch.materialise import materialise
from wconv.formats.torch.objects import LEAVES, JoinedTensor, Record, Size, UnavailableError, plain_number
from wconv.tensors.lazy import LazyTensor, Shape, checked_shape
from wconv.tensors.pieces import Piece

MODEL = re.compile(r"(?:zero_pp_rank_(?P<rank>\d{1,6})_)?mp_rank_(?P<model>\d{1,4})_model_states\.pt")
SHARE = re.compile(
    r"(?:bf16_|fp16_)?zero_pp_rank_(?P<rank>\d{1,6})_mp_rank_(?P<model>\d{1,4})_optim_states\.pt"
)
APART = re.compile(r"layer_\d+-model.*_states\.pt")
"""What DeepSpeed saves of pipelines by themselves."""

UNIVERSAL = "zero"
"""The sub-directory of a universal checkpoint, which has a directory for each parameter."""

UNIVERSAL_LIMIT = 1_000_000
"""Parameters of a universal checkpoint."""


def find(directory: Path, names: Sequence[str]) -> list[str]:
    """The files of a ZeRO checkpoint among those of a directory; none where it is another."""
    shares = [name for name in names if SHARE.fullmatch(name)]
    models = [name for name in names if MODEL.fullmatch(name)]
    parts = [name for name in names if experts.FILE.fullmatch(name)]
    if not models or not (shares or parts or _is_universal(directory)):
        return []
    return [*models, *shares, *parts, *(name for name in names if APART.fullmatch(name))]


def _is_universal(directory: Path) -> bool:
    """Whether there is a directory of parameters: with a file of its values in each."""
    place = directory / UNIVERSAL
    if not place.is_dir():
        return False
    with os.scandir(place) as entries:
        return any(os.path.isfile(f"{entry.path}/fp32.pt") for entry in itertools.islice(entries, 100))


def read(directory: Path, names: Sequence[str]) -> tuple[dict[Any, Any], RankFiles]:
    """The float32 state dict, and the files that it lies in.

    Raises:
        FormatError: a file is missing or damaged, or it is a kind of checkpoint that cannot be joined.
        UnsafeError: a file asks for something that no weights need.
    """
    files = RankFiles(directory, "the checkpoint")
    _refuse_others(directory, names)
    models = _by_rank(directory, [name for name in names if MODEL.fullmatch(name)], MODEL)
    parts = [name for name in names if experts.FILE.fullmatch(name)]
    whole = bool(parts) and not any(SHARE.fullmatch(name) for name in names) and not _is_universal(directory)
    states = [_ModelState(files, name, whole=whole) for name in models]
    if whole:
        root = {**states[0].held(), **experts.read(files, parts)}
        return {name: JoinedTensor(tensor) for name, tensor in root.items()}, files
    if _is_universal(directory):
        return _universal(directory, states, files), files
    shares = _by_rank(directory, [name for name in names if SHARE.fullmatch(name)], SHARE)
    optimizers = [_optimizer(files, name) for name in shares]
    where = str(directory)
    stage, world = _stage(directory, shares[0], optimizers[0])
    if world != len(shares):
        raise FormatError(
            f"{directory} holds {len(shares)} files *_optim_states.pt and was saved by {world} ranks:"
            " copy the files of all"
        )
    if stage == 3 and len(states) != world:
        raise FormatError(
            f"{directory} holds {len(states)} files *_model_states.pt and was saved by {world} ranks:"
            " copy the files of all"
        )
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    flat = [_flat_groups(where, name, one, key) for name, one in zip(shares, optimizers, strict=True)]
    state = states[0]
    root = state.buffers()
    if stage == 3:
        root.update(_frozen_in_shares(states, where))
        root.update(_third_stage(state, flat, where))
    else:
        root.update(state.frozen())
        root.update(_second_stage(state, flat, optimizers[0], where))
        experts.check(root, experts.read(files, parts), where)
    _share(root, state)
    _add_others(root, state, files)
    return {name: JoinedTensor(tensor) for name, tensor in root.items()}, files


def _refuse_others(directory: Path, names: Sequence[str]) -> None:
    """Refuses what `zero_to_fp32.py` cannot join either. Raises `FormatError`."""
    apart = next((name for name in names if APART.fullmatch(name)), None)
    if apart is not None:
        raise FormatError(
            f"{directory / apart} is of a pipeline, which DeepSpeed saves by itself: make a"
            " universal checkpoint of it with DeepSpeed's ds_to_universal.py, which wconv reads"
        )
    for name in names:
        match = MODEL.fullmatch(name) or SHARE.fullmatch(name)
        if match and int(match["model"]):
            raise FormatError(
                f"{directory / name} is of a second tensor-parallel rank: make a universal checkpoint of it"
                " with DeepSpeed's ds_to_universal.py, which wconv reads"
            )


def _by_rank(directory: Path, names: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """Files in the order of their ranks, each there once. Raises `FormatError`."""
    ranks: dict[int, str] = {}
    for name in names:
        match = pattern.fullmatch(name)
        assert match is not None
        rank = int(match["rank"] or 0)
        if rank in ranks:
            raise FormatError(f"{directory} mixes checkpoints ({ranks[rank]}, {name}): keep one")
        ranks[rank] = name
    for rank in range(len(ranks)):
        if rank not in ranks:
            gone = names[0].replace(f"pp_rank_{min(ranks)}_", f"pp_rank_{rank}_")
            raise FormatError(f"{directory / gone} is missing: copy the files of all ranks")
    return [ranks[rank] for rank in sorted(ranks)]


class _ModelState:
    """One `*_model_states.pt`.

    Args:
        whole: the module has all values, and no shares need to be described.
    """

    def __init__(self, files: RankFiles, name: str, *, whole: bool = False) -> None:
        self.path = files.path(name)
        root = load_tree(self.path)
        held = root if isinstance(root, dict) else {}
        self.module = held.get("module")
        self.buffer_names = held.get("buffer_names") or []
        shapes = held.get("param_shapes")
        groups = [shapes] if isinstance(shapes, dict) else [] if whole and shapes is None else shapes
        self.frozen_shapes = held.get("frozen_param_shapes") or {}
        self.fragments = held.get("frozen_param_fragments") or {}
        self.shared = held.get("shared_params") or {}
        kinds = (self.frozen_shapes, self.fragments, self.shared, self.module)
        if not isinstance(groups, list | tuple) or not all(
            isinstance(one, dict) for one in (*groups, *kinds)
        ):
            raise FormatError(f"{self.path} is no model state of DeepSpeed's: it has no param_shapes")
        self.groups: list[dict[str, Shape]] = [self._shapes(group) for group in groups]
        self.frozen_shapes = self._shapes(self.frozen_shapes)

    def _shapes(self, group: Mapping[Any, Any]) -> dict[str, Shape]:
        if not all(type(name) is str and type(shape) in (Size, tuple, list) for name, shape in group.items()):
            raise FormatError(f"{self.path} is damaged: its param_shapes are none")
        return {name: checked_shape(shape, f"{self.path}: {name:.100}") for name, shape in group.items()}

    def buffers(self) -> dict[str, LazyTensor]:
        """Those of the module: floating ones in float32, as the parameters are."""
        assert isinstance(self.module, dict)
        names = set(self.buffer_names) if isinstance(self.buffer_names, list | tuple | set) else set()
        found: dict[str, LazyTensor] = {}
        for name, leaf in self.module.items():
            if type(name) is str and name in names and isinstance(leaf, LEAVES):
                tensor = lazy(self.path, name, leaf)
                found[name] = tensor.cast("float32") if tensor.dtype.is_floating else tensor
        return found

    def held(self) -> dict[str, LazyTensor]:
        """All that the module has, as it is."""
        assert isinstance(self.module, dict)
        return {
            name: lazy(self.path, name, leaf)
            for name, leaf in self.module.items()
            if type(name) is str and isinstance(leaf, LEAVES)
        }

    def frozen(self) -> dict[str, LazyTensor]:
        """Parameters that are not trained, whole."""
        return {name: self.fragment(name) for name in self.frozen_shapes}

    def fragment(self, name: str) -> LazyTensor:
        """What this rank holds of a parameter that is not trained. Raises `FormatError`."""
        if not isinstance(self.fragments.get(name), LEAVES):
            raise FormatError(f"{self.path} lacks the frozen parameter {name:.200}")
        return lazy(self.path, name, self.fragments[name])


def lazy(path: str, name: str, leaf: Any) -> LazyTensor:
    """A tensor of a file. Raises `FormatError` where it has no values."""
    try:
        return materialise(leaf)
    except UnavailableError as error:
        raise FormatError(f"{path}: {name:.200} cannot be read: {error}") from None


def _optimizer(files: RankFiles, name: str) -> dict[Any, Any]:
    root = load_tree(files.path(name))
    held = root.get("optimizer_state_dict") if isinstance(root, dict) else None
    if not isinstance(held, dict):
        raise FormatError(f"{files.directory / name} is no optimizer state of ZeRO's")
    return held


def _stage(directory: Path, name: str, held: Mapping[Any, Any]) -> tuple[int, int]:
    """The stage, and by how many ranks it was saved."""
    stage, count = held.get("zero_stage"), held.get("partition_count")
    if type(stage) is Record and type(stage.args) is tuple and len(stage.args) == 1:
        # an enumeration's member is made of its number
        stage = stage.args[0]
    stage = plain_number(stage)
    if stage is None and "single_partition_of_fp32_groups" in held:
        # DeepSpeed's optimizer for bfloat16 has no stages: it shares as the first does
        stage = 1
    counts = count if isinstance(count, list | tuple) and count else [count]
    if any(type(plain_number(one)) is not int for one in counts) or stage not in (1, 2, 3):
        raise FormatError(f"{directory / name} is no optimizer state of ZeRO's: stage {stage!r:.40}")
    return int(stage), max(map(int, counts))


def _flat_groups(where: str, name: str, held: Mapping[Any, Any], key: str) -> list[LazyTensor]:
    """The shares that a rank holds: one vector for each group."""
    groups = held.get(key)
    if isinstance(groups, LEAVES):
        groups = [groups]
    if not isinstance(groups, list | tuple) or not all(isinstance(one, LEAVES) for one in groups):
        raise FormatError(f"{where}/{name} has no {key}: it is no optimizer state of ZeRO's that wconv knows")
    return [lazy(f"{where}/{name}", key, one) for one in groups]


def _second_stage(
    state: _ModelState, flat: Sequence[Sequence[LazyTensor]], first: Mapping[Any, Any], where: str
) -> dict[str, LazyTensor]:
    """Parameters of stages 1 and 2: a row for each group, over all ranks, or those that have its experts."""
    if any(len(groups) != len(flat[0]) for groups in flat) or len(flat[0]) != len(state.groups):
        raise FormatError(f"{where}: the ranks hold different numbers of parameter groups")
    paddings = first.get("param_alignment_paddings")
    found: dict[str, LazyTensor] = {}
    for number, shapes in enumerate(state.groups):
        skipped = gaps(paddings, number, len(shapes), where)
        shares = [groups[number] for groups in flat]
        if experts.is_group(shapes):
            count = first.get("partition_count")
            for at, part in enumerate(experts.shares(shares, count, number, where)):
                held = cut_row(part, shapes, skipped, f"group {number}", where)
                found.update({experts.whole_name(name, shapes, at): tensor for name, tensor in held.items()})
        else:
            found.update(cut_row(shares, shapes, skipped, f"group {number}", where))
    return found


def _third_stage(
    state: _ModelState, flat: Sequence[Sequence[LazyTensor]], where: str
) -> dict[str, LazyTensor]:
    """Parameters of stage 3: each is in shares of equal size over all ranks, the last ones padded."""
    rows = [row(groups) for groups in flat]
    found: dict[str, LazyTensor] = {}
    at = 0
    for name, shape in itertools.chain.from_iterable(group.items() for group in state.groups):
        size = math.prod(shape)
        share = -(-size // len(rows))
        pieces: list[Piece] = []
        for rank, held_row in enumerate(rows):
            begin = min(rank * share, size)
            pieces += held_row.range(at, at + min(share, size - begin), begin)
        found[name] = vector(pieces, shape, name, where)
        at += share
    held = {one.ends[-1] if one.ends else 0 for one in rows}
    if held != {at}:
        raise FormatError(
            f"{where}: the parameters have {at:,} elements on each rank and the ranks hold {max(held):,}:"
            " the files are of different checkpoints"
        )
    return found


def _frozen_in_shares(states: Sequence[_ModelState], where: str) -> dict[str, LazyTensor]:
    """Parameters of stage 3 that are not trained: in shares over the ranks' model states."""
    found: dict[str, LazyTensor] = {}
    for name, shape in states[0].frozen_shapes.items():
        fragments = row(state.fragment(name) for state in states)
        found[name] = vector(fragments.range(0, math.prod(shape), 0), shape, name, where)
    return found


def _share(root: dict[str, LazyTensor], state: _ModelState) -> None:
    """Adds the names that are other names of a parameter."""
    for name, other in state.shared.items():
        if type(name) is str and type(other) is str and other in root:
            root[name] = root[other]


def _add_others(root: dict[str, LazyTensor], state: _ModelState, files: RankFiles) -> None:
    """Adds what the module has and no rank trains, which `zero_to_fp32.py` leaves out."""
    assert isinstance(state.module, dict)
    added: list[str] = []
    for name, leaf in state.module.items():
        if type(name) is str and name not in root and isinstance(leaf, LEAVES):
            tensor = lazy(state.path, name, leaf)
            # of stage 3, the module holds empty tensors in the place of parameters
            if tensor.size:
                root[name] = tensor
                added.append(name)
    if added:
        more = f" and {len(added) - 1:,} more" if len(added) > 1 else ""
        files.notes.append(f"{added[0]:.150}{more}: not trained, taken from {os.path.basename(state.path)}")


def _universal(directory: Path, states: Sequence[_ModelState], files: RankFiles) -> dict[str, Any]:
    """A universal checkpoint: a directory for each parameter, with its values whole.

    Buffers are taken from the module, which keeps their dtypes; of stage 3, frozen parameters are in shares.
    """
    state = states[0]
    root = state.buffers()
    frozen = dict(state.frozen_shapes)
    in_shares = any(state.fragment(name).size < math.prod(shape) for name, shape in frozen.items())
    root.update(_frozen_in_shares(states, str(directory)) if in_shares else state.frozen())
    kept = set(root)
    place = directory / UNIVERSAL
    shapes = {name: shape for group in state.groups for name, shape in group.items()}
    names = [entry.name for entry in itertools.islice(os.scandir(place), UNIVERSAL_LIMIT) if entry.is_dir()]
    order = {name: at for at, name in enumerate(shapes)}
    files.listed = "mp_rank_00_model_states.pt"
    for name in sorted({*names, *shapes} - kept, key=lambda name: (order.get(name, len(order)), name)):
        if not is_below(name):
            raise FormatError(f"{place} holds {name!r:.80}, no plain name: refused")
        path = files.path(f"{UNIVERSAL}/{name}/fp32.pt")
        held = load_tree(path)
        leaf = held.get("param") if isinstance(held, dict) else held
        if not isinstance(leaf, LEAVES):
            raise FormatError(f"{path} holds no parameter")
        tensor = lazy(path, name, leaf)
        shape = shapes.get(name)
        root[name] = tensor.reshape(shape) if shape and tensor.size == math.prod(shape) else tensor
    _share(root, state)
    _add_others(root, state, files)
    return {name: JoinedTensor(tensor) for name, tensor in root.items()}
