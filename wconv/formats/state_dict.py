"""From the object that a checkpoint holds to a state dict: `{name: tensor}`, what else there is, and ties.

A state dict may be the object itself, lie within a wrapper under a known key, or have to be collected from a
pickled module. Nested dicts and lists are flattened with dots; two paths that come to the same name are an
error, not a loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats.objects import LEAVES, Global, NestedTensor, OrderedDict, Record, TorchTensor

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "params_ema",
    "params",
    "best_state",
    "ema_model_state_dict",
    "model_state",
    "model",
    "module",
    "ema",
    "weights",
    "net",
    "network",
)
"""Keys under which training programs keep the weights, the preferred ones first."""

COMPANIONS = frozenset(
    """
    optimizer optimizers optimizer_state optimizer_states optimizer_state_dict optim
    optim_state_dict scheduler lr_scheduler lr_schedulers scheduler_state_dict
    lr_scheduler_state_dict callbacks loops scaler grad_scaler amp ema ema_state ema_state_dict
    ema_model ema_model_state_dict model_ema params_ema params state_dict_ema train_state rng_state
    rng_states random_state cuda_rng_state torch_rng_state random_rng_state hyper_parameters args
    config cfg hparams epoch step iteration global_step last_optimizer_state extra_state history
    metrics loss best_state optimizer_history task_state criterion trainer updates
    """.split()  # noqa: SIM905
)
"""Keys beside the weights whose tensors are not weights, or are another copy of them."""

PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "ema_model.")
"""What wrappers of modules put before every name."""

INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What wrappers of parts of a module put within names."""

DEPTH_LIMIT = 400
"""Objects within objects."""

NODES_EXTRA = 200_000
"""How many more objects than bytes of pickle the unfolded tree may have: shared parts count each time."""

_CONTAINERS = (dict, list, tuple)


@dataclass(slots=True)
class Flattened:
    """What `flatten` found, by name. `paths` says from where in the object, for errors."""

    tensors: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    modules: dict[str, Record] = field(default_factory=dict)


def children(value: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values of a container, of a record its attributes, items and elements."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif isinstance(value, Record):
        yield "args", value.args
        yield "state", value.state
        yield from value.items.items()
        yield from enumerate(value.elements)


def check_tree(root: Any, program: int, where: str) -> None:
    """Refuses objects that are too deep, or that unfold to far more than the file describes.

    One walk over the distinct objects counts how many there would be if shared ones were repeated, so that
    everything after it may walk the tree naively. An object within itself counts once.

    Raises:
        UnsafeError: the tree is beyond `DEPTH_LIMIT` or `program + NODES_EXTRA` nodes.
    """
    limit = program + NODES_EXTRA
    sizes: dict[int, int] = {}
    path: list[tuple[int, Iterator[tuple[Any, Any]], int]] = []
    nodes = (dict, list, tuple, Record)
    if not isinstance(root, nodes):
        return
    open_ids = {id(root)}
    current, values, size = id(root), children(root), 1
    while True:
        for _, value in values:
            size += 1
            if not isinstance(value, nodes):
                continue
            known = sizes.get(id(value))
            if known is not None:
                size += known
            elif id(value) not in open_ids:
                if len(path) >= DEPTH_LIMIT:
                    raise UnsafeError(f"{where} holds objects nested more than {DEPTH_LIMIT} deep: refused")
                path.append((current, values, size))
                open_ids.add(id(value))
                current, values, size = id(value), children(value), 1
                break
            if size > limit:
                raise UnsafeError(f"{where} holds objects that repeat each other beyond all measure: refused")
        else:
            if size > limit:
                raise UnsafeError(f"{where} holds objects that repeat each other beyond all measure: refused")
            sizes[current] = size
            open_ids.discard(current)
            if not path:
                return
            done = size
            current, values, size = path.pop()
            size += done


def is_module(value: Any) -> bool:
    """Whether a record is a pickled `nn.Module`."""
    return isinstance(value, Record) and {"_parameters", "_modules"} <= value.attributes.keys()


def is_script(value: Any) -> bool:
    """Whether a record is a TorchScript module."""
    return (
        isinstance(value, Record)
        and isinstance(value.kind, Global)
        and value.kind.module.startswith("__torch__")
    )


def module_members(module: Record) -> Iterator[tuple[str, Any]]:
    """Parameters, persistent buffers and sub-modules of a pickled module, in `state_dict`'s order."""
    attributes = module.attributes
    transient = attributes.get("_non_persistent_buffers_set")
    transient = transient if isinstance(transient, (set, frozenset)) else ()
    for group in ("_parameters", "_buffers", "_modules"):
        members = attributes.get(group)
        members = members.items if isinstance(members, Record) else members
        if not isinstance(members, dict):
            continue
        for name, value in members.items():
            if value is not None and not (group == "_buffers" and name in transient):
                yield str(name), value


def script_members(module: Record) -> Iterator[tuple[str, Any]]:
    """A TorchScript module's tensors, modules and containers of them; its constants."""
    for name, value in (*module.attributes.items(), *module.items.items()):
        if isinstance(value, (*LEAVES, NestedTensor, Record, dict, list, tuple)):
            yield str(name), value


def flatten(root: Any, where: str) -> Flattened:
    """Every tensor below `root` under its dotted name; everything else under `others`.

    Raises:
        FormatError: two paths come to the same name.
    """
    found = Flattened()
    if type(root) in (dict, OrderedDict) and all(
        type(value) is TorchTensor and type(key) is str for key, value in root.items()
    ):
        found.tensors.update(root)
        return found
    pending: list[tuple[tuple[str, ...], Any]] = [((), root)]
    active: list[tuple[int, int]] = []
    while pending:
        path, value = pending.pop()
        while active and active[-1][0] >= len(path):
            active.pop()
        if isinstance(value, (*_CONTAINERS, Record)):
            if any(identity == id(value) for _, identity in active):
                continue
            active.append((len(path), id(value)))
        if is_module(value) or is_script(value):
            found.modules[".".join(path)] = value
        members = _members(value)
        if members is not None:
            pending.extend(reversed([((*path, _name(key)), member) for key, member in members]))
        elif isinstance(value, NestedTensor):
            parts = [((*path, str(index)), part) for index, part in enumerate(value.parts())]
            found.notes.append(f"{'.'.join(path)} is a nested tensor: written as {len(parts)} tensors")
            pending.extend(reversed(parts))
        else:
            _place(found, path, value, where)
    return found


def _members(value: Any) -> list[tuple[Any, Any]] | None:
    """What a value is flattened into; None for what stays whole."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        # numbers and the like stay one value
        return list(enumerate(value)) if any(isinstance(item, _FLATTENED) for item in value) else None
    if isinstance(value, Record):
        if is_module(value):
            return list(module_members(value))
        if is_script(value):
            return list(script_members(value))
        if value.items:
            return list(value.items.items())
        if value.elements and any(isinstance(item, _FLATTENED) for item in value.elements):
            return list(enumerate(value.elements))
    return None


_FLATTENED = (*LEAVES, NestedTensor, Record, *_CONTAINERS)


def _name(key: Any) -> str:
    """A key as a part of a name; a tuple's parts are joined by dots."""
    if isinstance(key, str):
        return key
    if isinstance(key, tuple):
        return ".".join(_name(part) for part in key)
    return f"{key!r:.100}" if isinstance(key, (Record, Global)) else str(key)


def _place(found: Flattened, path: tuple[str, ...], value: Any, where: str) -> None:
    name = ".".join(path) if path else "tensor"
    if isinstance(value, LEAVES):
        if name in found.paths:
            raise FormatError(
                f"{where} holds two tensors for the name {name!r:.200}: at {_spell(found.paths[name])}"
                f" and at {_spell(path)}; pick one with --key"
            )
        found.paths[name] = path
        found.tensors[name] = value
    elif isinstance(value, Record) and holds_tensors(value):
        found.skipped[name] = f"it is a {value.class_name:.100}, which wconv does not know"
    else:
        found.others[name] = value


def _spell(path: tuple[str, ...]) -> str:
    return "".join(f"[{part!r:.100}]" for part in path)


def holds_tensors(value: Any) -> bool:
    """Whether there is a tensor anywhere below; looks at no object twice."""
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        if isinstance(item, (*LEAVES, NestedTensor)):
            return True
        if isinstance(item, (*_CONTAINERS, Record)) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(child for _, child in children(item))
    return False


@dataclass(frozen=True, slots=True)
class Chosen:
    """The part of the object that is the state dict: where it is, itself, and what the user should know."""

    path: tuple[Any, ...]
    value: Any
    notes: tuple[str, ...] = ()


def choose(root: Any, key: str | None, where: str) -> Chosen:
    """Finds the state dict within a checkpoint.

    Raises:
        FormatError: there is nothing at `key`, or no tensor anywhere.
    """
    if key is not None:
        picked, value = _pick(root, key, where)
        if not holds_tensors(value):
            raise FormatError(f"{where} has no tensors at {key!r:.200}")
        return Chosen(picked, value, (f"took {key}",))
    path: tuple[Any, ...] = ()
    value, notes = root, []
    for _ in range(4):
        step = _wrapper(value)
        if step is None:
            break
        name, others = step
        path, value = (*path, name), _entries(value)[name]
        taken = ".".join(map(str, path))
        notes.append(f"took {taken}" + (f", not {', '.join(others)}; --key picks another" if others else ""))
    return Chosen(path, value, tuple(notes[-1:]))


def _entries(value: Any) -> Mapping[Any, Any]:
    """A mapping's entries: of a dict, or of a record that acts as one."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Record) and not is_module(value) and not is_script(value):
        return value.items
    return {}


def _wrapper(value: Any) -> tuple[str, list[str]] | None:
    """The key of a wrapper that the weights lie under, and the keys of its other copies of weights."""
    entries = _entries(value)
    held = [
        name
        for name, item in entries.items()
        if isinstance(item, (*_CONTAINERS, Record)) and holds_tensors(item)
    ]
    candidates = [name for name in WRAPPERS if name in held]
    if not candidates:
        return None
    taken = candidates[0]
    loose = [name for name in held if name not in candidates and name not in COMPANIONS]
    loose += [name for name, item in entries.items() if isinstance(item, LEAVES) and name not in COMPANIONS]
    if loose:
        return None
    others = [
        str(name) for name in held if name != taken and not str(name).startswith(("optim", "lr_", "sched"))
    ]
    return taken, others


def _pick(root: Any, key: str, where: str) -> tuple[tuple[Any, ...], Any]:
    """The value at a dotted path; a key with dots in it is found too."""
    path: tuple[Any, ...] = ()
    value, rest = root, key.split(".")
    while rest:
        entries = {_name(name): (name, item) for name, item in _members(value) or []}
        for count in range(len(rest), 0, -1):
            found = entries.get(".".join(rest[:count]))
            if found is not None:
                path, value, rest = (*path, found[0]), found[1], rest[count:]
                break
        else:
            known = ", ".join(list(entries)[:8]) or "nothing"
            place = ".".join(map(str, path)) or "the top"
            raise FormatError(f"{where} has no {key!r:.200}: at {place} there is {known:.300}")
    return path, value


def strip_prefixes(names: list[str]) -> tuple[dict[str, str], list[str]]:
    """What each name is without wrappers' prefixes, and which were taken off.

    A prefix goes when every name has it; an infix wherever it is. Nothing goes where names would collide.
    """
    short = {name: name for name in names}
    taken: list[str] = []
    for infix in INFIXES:
        if not any(infix in text for text in short.values()):
            continue
        trial = {name: text.replace("." + infix, ".").removeprefix(infix) for name, text in short.items()}
        if trial != short and len(set(trial.values())) == len(trial):
            short, taken = trial, [*taken, infix]
    changed = bool(names)
    while changed:
        changed = False
        for prefix in PREFIXES:
            if all(text.startswith(prefix) and len(text) > len(prefix) for text in short.values()):
                short = {name: text.removeprefix(prefix) for name, text in short.items()}
                taken, changed = [*taken, prefix], True
    return short, taken


def ties(tensors: Mapping[str, Any]) -> tuple[tuple[tuple[str, ...], ...], list[tuple[str, str]]]:
    """Groups of names for the very same elements, and pairs of tensors that overlap in part."""
    if _apart(tensors):
        return (), []
    by_source: dict[int, list[tuple[int, int, str, TorchTensor]]] = {}
    for name, tensor in tensors.items():
        if type(tensor) is TorchTensor and 0 not in tensor.shape:
            by_source.setdefault(id(tensor.storage.source), []).append((*_extent(tensor), name, tensor))
    groups: dict[tuple[Any, ...], dict[str, None]] = {}
    overlaps: list[tuple[str, str]] = []
    for source, views in by_source.items():
        views.sort(key=lambda view: view[:2])
        last_end, last_name = -1, ""
        for begin, end, name, tensor in views:
            if begin >= last_end:
                last_end, last_name, last = end, name, tensor
                continue
            known = len(groups)
            for other, alike in ((last_name, last), (name, tensor)):
                groups.setdefault((source, *_identity(alike)), {})[other] = None
            if len(groups) == known + 2 or (
                len(groups) == known + 1 and _identity(last) != _identity(tensor)
            ):
                overlaps.append((last_name, name))
            if end > last_end:
                last_end, last_name, last = end, name, tensor
    order = {name: at for at, name in enumerate(tensors)}
    tied = [tuple(sorted(group, key=order.__getitem__)) for group in groups.values() if len(group) > 1]
    return tuple(sorted(tied, key=lambda group: order[group[0]])), overlaps


def _apart(tensors: Mapping[str, Any]) -> bool:
    """Whether no two tensors are of storages that share a byte: the common case, told at a glance."""
    places = [
        (id(storage.source), storage.start, storage.numel * storage.dtype.itemsize)
        for storage in [tensor.storage for tensor in tensors.values() if type(tensor) is TorchTensor]
    ]
    places.sort()
    return not any(
        source == other and start + size > begin
        for (source, start, size), (other, begin, _) in itertools.pairwise(places)
    )


def _identity(tensor: TorchTensor) -> tuple[Any, ...]:
    """What two tensors that are the same elements have in common."""
    begin, _ = _extent(tensor)
    quantizer = str(tensor.quantizer) if tensor.quantizer else None
    return (begin, tensor.shape, tensor.stride, str(tensor.dtype), tensor.conj, tensor.neg, quantizer)


def _extent(tensor: TorchTensor) -> tuple[int, int]:
    """First and last + 1 byte of a view within the source of its storage."""
    from wconv.formats.torch_names import EXTRA_SIZES

    size = EXTRA_SIZES[tensor.dtype] if isinstance(tensor.dtype, str) else tensor.dtype.itemsize
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    start = tensor.storage.start
    return start + tensor.offset * size, start + (last + 1) * size
