"""Modules that hold modules or parameters by number or by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wconv.torch.modules import Module
from wconv.torch.parameter import Parameter


class _Row(Module):
    """Members under the names "0", "1", …"""

    __module__ = "torch.nn"
    _group = "_modules"

    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = self.__dict__[self._group]
        return members

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members().values())

    def __getitem__(self, index: Any) -> Any:
        members = list(self._members().values())
        return self._like(members[index]) if isinstance(index, slice) else members[index]

    def _like(self, members: list[Any]) -> Any:
        kind: Any = type(self)
        return kind(members)

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(range(len(self))[index]), value)

    def append(self, member: Any) -> Any:
        setattr(self, str(len(self)), member)
        return self

    def extend(self, members: Iterable[Any]) -> Any:
        for member in members:
            self.append(member)
        return self


class ModuleList(_Row):
    """Modules in a row."""

    __module__ = "torch.nn"

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())


class ParameterList(_Row):
    """Parameters in a row."""

    __module__ = "torch.nn"
    _group = "_parameters"

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def append(self, member: Any) -> Any:
        return super().append(member if isinstance(member, Parameter) else Parameter(member))


class Sequential(_Row):
    """Modules in a row, or by name where an ordered dict is given."""

    __module__ = "torch.nn"

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return super().__getitem__(index)


class ModuleDict(Module):
    """Modules by key."""

    __module__ = "torch.nn"

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Any) -> None:
        for name, module in dict(modules).items():
            self.add_module(name, module)

    def __getitem__(self, key: str) -> Module | None:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._modules.items()
