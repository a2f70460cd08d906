"""What a checkpoint says of the modules that its tensors belong to, where it holds whole modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wconv.wording import fitted


@dataclass(frozen=True, slots=True)
class Module:
    """One module of a pickled `nn.Module` or a TorchScript archive.

    Attributes:
        class_name: the dotted path of its class as torch spells it, "torch.nn.modules.conv.Conv2d".
        settings: its attributes that are plain numbers, texts, or a few integers ("stride": (2, 2));
            TorchScript keeps few.
        buffers: which of its own tensors are buffers, by the names that it has for them; empty where the
            file does not say.
    """

    class_name: str
    settings: Mapping[str, bool | int | float | str | tuple[int, ...]] = field(default_factory=dict)
    buffers: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return fitted(f"<Module {self.class_name}>")
