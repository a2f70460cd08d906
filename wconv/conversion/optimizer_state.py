"""The file of an optimizer's state, planned beside the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wconv import optimizers
from wconv.conversion import stages
from wconv.conversion.output_dtypes import written_dtypes
from wconv.conversion.request import Request
from wconv.conversion.stages import Picked
from wconv.writing.plan import Entry, Plan, make


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """The file of an optimizer's state: its plan, what each tensor is made of, what the user should know."""

    plan: Plan
    sources: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    files: tuple[Path, ...]


def plan_optimizer(request: Request, picked: Picked, weights: Sequence[Entry]) -> OptimizerState:
    """Plans `optimizer.safetensors`; the state keeps its own dtype, for moments lose more than weights.

    Raises:
        WconvError: the checkpoint holds no state that MLX has an optimizer for.
    """
    opened = picked.opened
    state = optimizers.lay_out_state(
        opened, picked.tensors, lambda tensors: stages.merge_and_lay_out(request, opened, tensors).applied
    )
    written = written_dtypes(state.tensors, None)
    entries = list(map(Entry, state.tensors.keys(), state.tensors.values(), written))
    planned = make(entries, state.metadata, filename=optimizers.FILENAME)
    kept = {entry.dtype.name for entry in entries if entry.name in state.sources}
    other = {entry.dtype.name for entry in weights if entry.dtype.is_floating}
    notes = list(state.notes)
    if kept and not kept <= other:
        text = f"the state is {', '.join(sorted(kept))}, the weights are {', '.join(sorted(other))}"
        notes.append(f"{text}: MLX's steps give weights of the wider dtype")
    return OptimizerState(planned, state.sources, tuple(notes), state.files)
