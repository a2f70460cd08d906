"""A checkpoint: one mapping from names to lazy tensors, and what its files say beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv.errors import FormatError
from wconv.formats.modules import Module
from wconv.stores import files
from wconv.tensors.lazy import LazyTensor
from wconv.wording import fitted, plural


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint(Mapping[str, LazyTensor]):
    """A state dict that has been opened but not read: `checkpoint["lm_head.weight"].numpy()` reads.

    Attributes:
        path: what was opened.
        format: what it is, in words ("safetensors", "PyTorch zip").
        tensors: name → lazy tensor, in the order of the files.
        files: the weights files, in order.
        config: config.json of a model directory, else None.
        params: params.json of a directory without config.json, else None.
        beside: the directory that config and tokenizer are in, where it is not simply `path`: of a training
            checkpoint, or as the caller said.
        in_pieces: its tensors lie in pieces over its files.
        made_of: names of decoded weights → the tensors of the files that they are decoded from.
        quantization: hf_quant_config.json of a directory, where config.json says nothing of the kind.
        metadata: what else the files say, as plain data.
        skipped: what cannot be had, each with the reason: tensors, where `skip_unreadable` allowed it, and
            arrays that are of no numbers.
        left_out: weights files in the directory that were not opened, each with the reason.
        notes: what the user should be told.
        ties: groups of names that share their bytes.
        modules: the modules that the tensors belong to, by dotted path, where a file holds whole modules.
        not_numbers: those of `skipped` that hold texts, dates or records, which no weights do.

    Example:
        >>> with wconv.open("model.ckpt") as checkpoint:
        ...     array = checkpoint["linear.weight"].numpy()
        >>> array.shape
        (200, 4)
    """

    path: Path
    format: str
    tensors: dict[str, LazyTensor]
    files: tuple[Path, ...]
    config: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    modules: Mapping[str, Module] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    not_numbers: frozenset[str] = frozenset()
    made_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: Path | None = None
    in_pieces: bool = False

    def __getitem__(self, name: str) -> LazyTensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return fitted(f"<Checkpoint {self.path}: {self.format}, {plural(len(self), 'tensor')}>")

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the files; a tensor that is read after that opens its own again."""
        for file in self.files:
            files.close(str(file))

    @property
    def description(self) -> Mapping[str, Any] | None:
        """What is said of the model: by config.json or params.json, or by `dims` beside a file's weights."""
        if self.config is not None and self.quantization is not None:
            return {**self.config, "quantization_config": self.quantization}
        if self.config is not None or self.params is not None:
            return self.config if self.config is not None else self.params
        dims = self.metadata.get("dims")
        return {"dims": dims} if isinstance(dims, Mapping) else None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in their stored dtypes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def lost(self) -> dict[str, str]:
        """The tensors among `skipped`."""
        return {name: reason for name, reason in self.skipped.items() if name not in self.not_numbers}


def check_lost(path: Path, lost: Mapping[str, str], *, others: bool) -> None:
    """Refuses to go on without tensors that a file has, be there others or not. Raises `FormatError`."""
    if lost:
        name, reason = next(iter(lost.items()))
        more = f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""
        advice = f"; --skip-unreadable (skip_unreadable=True) goes on without {'them' if more else 'it'}"
        raise FormatError(
            f"{path}: {name:.100} cannot be read: {reason:.200}{more}{advice if others else ''}"
        )
