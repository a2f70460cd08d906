"""What every format's reader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv.formats.modules import Module
from wconv.tensors.lazy import LazyTensor


@dataclass(frozen=True, slots=True)
class Contents:
    """One file, opened but not read.

    Attributes:
        format: what the file is, in words for people ("safetensors", "PyTorch zip").
        tensors: the state dict, in the file's order.
        metadata: everything else that the file says, as plain data (hyper-parameters, optimizer state,
            safetensors' `__metadata__`); classes that are not data are inert records.
        skipped: names of tensors that cannot be had, each with the reason ("on the meta device").
        not_numbers: those of `skipped` that are no weights, for they hold texts, dates or records: nobody
            misses them.
        notes: what the user should be told, one sentence each (which wrapper was opened, what was decoded).
        ties: groups of names that share storage, offset, shape and dtype.
        modules: the modules that the tensors belong to, by their dotted paths ("" is the outermost).
        apart: tensors in classes of their own → the names of the tensors that they were taken apart into.
        root: the object as the file holds it, with leaves of `formats/torch/objects.py`; None for flat ones.
    """

    format: str
    tensors: dict[str, LazyTensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    modules: Mapping[str, Module] = field(default_factory=dict)
    root: Any = None
    not_numbers: frozenset[str] = frozenset()
    apart: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tree:
    """An object tree.

    Attributes:
        format: its container in words.
        root: the object.
        program: how many bytes of pickle described it.
        end: where it ends in its file; None where it is all of it.
    """

    format: str
    root: Any
    program: int
    end: int | None = None
