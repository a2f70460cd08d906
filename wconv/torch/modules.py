"""`nn.Module` as a holder of names: parameters, buffers, modules in modules. Nothing computes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from wconv.torch import missing
from wconv.torch.parameter import Parameter
from wconv.torch.state_dicts import IncompatibleKeys, load_state_dict
from wconv.torch.tensor import Tensor

GROUPS = ("_parameters", "_buffers", "_modules")
"""Where a module keeps what has a name."""


class Module:
    """Parameters, buffers and modules under their names, as torch keeps them; `forward` is refused."""

    __module__ = "torch.nn"

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]

    def __init__(self) -> None:
        held = {"training": True, "_non_persistent_buffers_set": set(), **{group: {} for group in GROUPS}}
        self.__dict__.update(held)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(missing.sentence("nn.Module.forward"))

    # names

    def __setattr__(self, name: str, value: Any) -> None:
        groups = [self.__dict__.get(group) for group in GROUPS]
        kinds: tuple[type, ...] = (Parameter, Tensor, Module)
        home = 0 if isinstance(value, Parameter) else 2 if isinstance(value, Module) else None
        if home is None:
            held = next((at for at, group in enumerate(groups) if group and name in group), None)
            if held is None:
                object.__setattr__(self, name, value)
                return
            if value is not None and not isinstance(value, kinds[held]):
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as '{name}', which holds a"
                    f" {kinds[held].__name__} (or None)"
                )
            home = held
        if groups[home] is None:
            raise AttributeError("cannot assign before Module.__init__() call")
        for at, group in enumerate(groups):
            if at != home and group is not None:
                group.pop(name, None)
        self.__dict__.pop(name, None)
        groups[home][name] = value  # type: ignore[index]

    def __getattr__(self, name: str) -> Any:
        for group in GROUPS:
            held = self.__dict__.get(group)
            if held is not None and name in held:
                return held[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        for group in GROUPS:
            if name in self.__dict__[group]:
                del self.__dict__[group][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Raises: KeyError: the name is taken, or none; TypeError: `param` is no Parameter."""
        self._require_free(name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}'"
                " (torch.nn.Parameter or None required)"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A tensor that is no parameter; it is in the state dict if `persistent`."""
        self._require_free(name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}'"
                " (torch Tensor or None required)"
            )
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(
            name
        )

    def register_module(self, name: str, module: Module | None) -> None:
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._require_free(name, "_modules")
        self._modules[name] = module

    add_module = register_module

    def _require_free(self, name: Any, group: str) -> None:
        if group not in self.__dict__:
            raise AttributeError("cannot assign before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"a name should be a string, got {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f'{name!r}: a name is not empty and holds no "."')
        if name not in self.__dict__[group] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    # walks

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, by their paths."""
        seen = set() if memo is None else memo
        if self in seen:
            return
        if remove_duplicate:
            seen.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(seen, _joined(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def _named(self, group: str, prefix: str, recurse: bool, once: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        walk = self.named_modules(prefix=prefix, remove_duplicate=once) if recurse else [(prefix, self)]
        for path, module in walk:
            for name, value in module.__dict__[group].items():
                if value is None or id(value) in seen:
                    continue
                if once:
                    seen.add(id(value))
                yield _joined(path, name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters by their paths; one that has several, by its first."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (value for _, value in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """Raises: AttributeError: there is no module of that path."""
        found = self
        for name in target.split(".") if target else ():
            held = getattr(found, name)
            if not isinstance(held, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
            found = held
        return found

    def get_parameter(self, target: str) -> Parameter:
        found: Parameter = self._get(target, "_parameters")
        return found

    def get_buffer(self, target: str) -> Tensor:
        found: Tensor = self._get(target, "_buffers")
        return found

    def _get(self, target: str, group: str) -> Any:
        path, _, name = target.rpartition(".")
        held = self.get_submodule(path).__dict__[group]
        if name not in held:
            raise AttributeError(f"`{name}` is not in {group.strip('_')} of {path or 'the module'}")
        return held[name]

    # state dicts

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """Parameters and persistent buffers by their paths; one that has several, by each."""
        given = dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))
        made = given.get("destination", destination)
        made = OrderedDict() if made is None else made
        prefix, keep_vars = given.get("prefix", prefix), given.get("keep_vars", keep_vars)
        self._save_to_state_dict(made, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=made, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return made

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, value in self._own().items():
            destination[prefix + name] = value if keep_vars else value.detach()
        if hasattr(type(self), "get_extra_state"):
            destination[f"{prefix}_extra_state"] = self.get_extra_state()

    def _own(self) -> dict[str, Tensor]:
        """What this module itself puts into a state dict."""
        held = {**self._parameters, **self._buffers}
        skipped = self._non_persistent_buffers_set
        return {name: value for name, value in held.items() if value is not None and name not in skipped}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies a state dict's tensors into this module's, or (`assign`) takes them as they are.

        Raises:
            RuntimeError: a shape differs; with `strict`, names too.
        """
        return load_state_dict(self, state_dict, strict, assign)

    # everything at once

    def apply(self, fn: Callable[[Module], None]) -> Module:
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _apply(self, change: Callable[[Tensor], Tensor]) -> Module:
        for child in self.children():
            child._apply(change)
        for parameter in self._parameters.values():
            if parameter is not None:
                parameter.data = change(parameter.detach())
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = change(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Floating point tensors in another dtype; every tensor on another device."""
        return self._apply(
            lambda t: (
                t.to(*args, **kwargs)
                if t.is_floating_point() or t.is_complex()
                else _only_moved(t, args, kwargs)
            )
        )

    def type(self, dst_type: Any) -> Module:
        return self._apply(lambda t: t.type(dst_type))

    def cpu(self) -> Module:
        return self._apply(lambda t: t.cpu())

    def cuda(self, device: Any = None) -> Module:
        raise RuntimeError(missing.sentence("nn.Module.cuda"))

    def train(self, mode: bool = True) -> Module:
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Module:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def extra_repr(self) -> str:
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        lines = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        extra = self.extra_repr()
        inside = "\n  " + "\n  ".join([*([extra] if extra else []), *lines]) + "\n" if lines else extra
        return f"{self._get_name()}({inside})"


def _floats(name: str) -> Callable[[Module], Module]:
    """`half` and its like: floating point tensors in that dtype."""

    def method(self: Module) -> Module:
        return self._apply(lambda t: getattr(t, name)() if t.is_floating_point() else t)

    method.__name__ = method.__qualname__ = name
    return method


for each in ("float", "double", "half", "bfloat16"):
    setattr(Module, each, _floats(each))


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _only_moved(tensor: Tensor, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Integers keep their dtype; that the device is one that can be had is checked all the same."""
    from wconv.torch.device import device

    places = [each for each in (*args, kwargs.get("device")) if isinstance(each, (str, device))]
    moved: Tensor = tensor.to(places[0]) if places else tensor
    return moved
