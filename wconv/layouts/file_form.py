"""How a consumer keeps weights in files, where it is not as the hub does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wconv.errors import LayoutError


@dataclass(frozen=True, slots=True)
class Form:
    """Names of files and what they say of themselves.

    Attributes:
        shard: a file's name, with `{number}` in it, counted from 0; without it, there may be one file only.
        max_shard_size: bytes of tensors in a file, unless the user says otherwise.
        metadata: of every file's header, and of the index.
        needs_header: whether the weights mean something else without the metadata.
    """

    shard: str
    max_shard_size: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    needs_header: bool = False

    @property
    def single(self) -> bool:
        """Whether the consumer reads one file only."""
        return "{number}" not in self.shard

    def names(self, count: int) -> list[str]:
        """The names of so many files.

        Raises:
            LayoutError: the consumer reads one file only.
        """
        if count > 1 and self.single:
            raise LayoutError(f"the weights must be in one file, {self.shard}: leave --max-shard-size away")
        return [self.shard.format(number=number) for number in range(count)]
