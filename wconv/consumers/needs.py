"""What a program looks for in the directory of a model, beside config.json's fields and the tensors."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Needs:
    """The files that a program loads, and how it reads them.

    Attributes:
        weights: patterns of the names of weights files that it reads.
        passed_over: endings of names that it does not read all the same.
        follows_index: where there is an index, it reads the files that this lists, and no others.
        decodes_tagged_floats: whether `{"__float__": "Infinity"}` in config.json is a number to it.
        tokenizer: groups of files, of which any one makes a tokenizer.
        processor: files of which one says how pictures and sounds are prepared; none where it needs none.
        trusting: versions that take `format: mlx` in a header at its word, and lay nothing out then.
    """

    weights: tuple[str, ...]
    passed_over: tuple[str, ...] = ()
    follows_index: bool = False
    decodes_tagged_floats: bool = False
    tokenizer: tuple[tuple[str, ...], ...] = ()
    processor: tuple[str, ...] = ()
    trusting: str = ""

    def reads(self, names: Iterable[str]) -> list[str]:
        """The files that it takes for weights where there is no index, of those in a directory."""
        return [
            name
            for name in names
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.weights)
            and not name.endswith(self.passed_over or ("\0",))
        ]


TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("tekken.json",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
)
"""Files that make a tokenizer of transformers."""
