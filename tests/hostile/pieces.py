"""Training checkpoints that lie: pieces beyond files, holes, repeats without end, names of other files."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.hostile.assemble import (
    Code,
    build,
    by_global,
    call,
    get,
    newobj,
    pickled,
    push,
    put,
    storage,
    tensor,
)
from tests.hostile.case import Case
from tests.hostile.code import SYSTEM
from tests.hostile.containers import VALUES, WEIGHTS, safetensors, torch_zip

METADATA = "torch.distributed.checkpoint.metadata"
FILES = "torch.distributed.checkpoint.filesystem"
FILE = "__0_0.distcp"
PIECE = torch_zip(tensor())
LENGTH = len(PIECE)
HUGE = (2**31, 2**62, 2**63, 10**30, -1, 1.5, "0", None)


def fields(name: str, module: str = METADATA, **state: Any) -> Code:
    """An instance of a class that has fields and nothing else."""
    return build(newobj(by_global(module, name)), state)


def size(*lengths: Any) -> Code:
    return call("torch", "Size", tuple(lengths))


def chunk(begin: Any = (0,), lengths: Any = (4,)) -> Code:
    return fields("ChunkStorageMetadata", offsets=size(*begin), sizes=size(*lengths))


def described(chunks: Any = None, shape: Any = (4,), dtype: Any = None) -> Code:
    properties = build(
        newobj(by_global(METADATA, "TensorProperties")),
        (dtype or by_global("torch", "float32"), None, False, None, False),
    )
    held = [chunk()] if chunks is None else chunks
    return fields("TensorStorageMetadata", properties=properties, size=size(*shape), chunks=held)


def place(file: Any = FILE, offset: Any = 0, length: Any = LENGTH, **more: Any) -> Code:
    return fields("_StorageInfo", FILES, relative_path=file, offset=offset, length=length, **more)


def index(name: str = "w", begin: Any = (0,)) -> Code:
    return fields("MetadataIndex", fqn=name, offset=size(*begin), index=0)


def pairs(items: list[tuple[Any, Any]]) -> Code:
    """A dict whose keys may be code."""
    return Code(b"}(" + b"".join(push(key) + push(value) for key, value in items) + b"u")


def metadata(tensors: Any = None, places: Any = None, planner: Any = None, kind: str = "Metadata") -> bytes:
    held = [(index(), place())] if places is None else places
    return pickled(
        fields(
            kind,
            state_dict_metadata={"w": described()} if tensors is None else tensors,
            planner_data={} if planner is None else planner,
            storage_data=pairs(held) if isinstance(held, list) else held,
        )
    )


def saved(described_by: bytes, files: Mapping[str, bytes] | None = None) -> Callable[[Path], Path]:
    """A directory with `.metadata` and the ranks' files."""

    def write(directory: Path) -> Path:
        (directory / ".metadata").write_bytes(described_by)
        for name, data in ({FILE: PIECE} if files is None else files).items():
            (directory / name).write_bytes(data)
        return directory

    return write


def shards(header: Any, sharding: Any) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        text = sharding if isinstance(sharding, str) else json.dumps(sharding)
        whole = {"__metadata__": {"DCP_SHARDING_INFO": text}, **header}
        data = safetensors(whole, b"\0" * 16)
        (directory / "shard-00001-model-00001-of-00001.safetensors").write_bytes(data)
        return directory

    return write


def _linked(directory: Path) -> Path:
    (directory / ".metadata").write_bytes(metadata())
    os.symlink("/etc/passwd", directory / FILE)
    return directory


def _million_times_a_million() -> bytes:
    """A list of a million times the same piece, which a thousand tensors share."""
    first = Code(put(Code(b"]"), 0) + b"(" + put(chunk(), 1) + b"h\x01" * 999_999 + b"e")
    tensors = {"t0": described(first), **{f"t{at}": described(get(0)) for at in range(1, 1000)}}
    return metadata(tensors)


def _cycle() -> bytes:
    inner = Code(put(Code(b"]"), 0) + b"(" + get(0) + b"e")
    return metadata({"w": described(inner)})


def distributed_tensor(placements: Any, mesh: Any = None, local: Code | None = None) -> Code:
    part = tensor(storage(), size=(2,)) if local is None else local
    rank_map = tensor(storage("1", "IntStorage", 2), size=(2,))
    held = (
        mesh
        if mesh is not None
        else build(newobj(by_global("torch.distributed.device_mesh", "DeviceMesh")), {"mesh": rank_map})
    )
    spec = build(
        newobj(by_global("torch.distributed.tensor._dtensor_spec", "DTensorSpec")),
        {"mesh": held, "placements": placements},
    )
    cls = by_global("torch.distributed.tensor", "DTensor")
    arguments = (cls, by_global("torch", "float32"), size(4), size(1), 0, None, None, False)
    function = by_global("torch._utils", "_rebuild_wrapper_subclass")
    state = {"_local_tensor": part, "_spec": spec}
    return call("torch._tensor", "_rebuild_from_type_v2", function, cls, arguments, state)


def shard(**state: Any) -> Code:
    return build(newobj(by_global("torch.distributed.tensor.placement_types", "Shard")), state)


def ranks(value: Code, names: tuple[str, ...]) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        for name in names:
            held = {"0": WEIGHTS, "1": struct.pack("<2i", 0, 1)}
            (directory / name).write_bytes(torch_zip(push({"w": value}), held))
        return directory

    return write


PAIR = ("model_world_size_2_rank_0.pt", "model_world_size_2_rank_1.pt")


def _refused() -> Iterator[tuple[str, Callable[[Path], Path]]]:
    yield "metadata-of-nothing", saved(pickled({}))
    yield "metadata-of-another-kind", saved(metadata(kind="StorageMeta"))
    yield "metadata-runs-code", saved(pickled({"w": SYSTEM}))
    yield "tensors-no-dict", saved(metadata([]))
    yield "places-no-dict", saved(metadata(places=push([])))
    yield "place-of-no-index", saved(metadata(places=[("w", place())]))
    yield "place-missing", saved(metadata(places=[]))
    yield "place-elsewhere", saved(metadata(places=[(index(begin=(1,)), place())]))
    for at, value in enumerate(HUGE):
        yield f"offset-{at}", saved(metadata(places=[(index(), place(offset=value))]))
        yield f"length-{at}", saved(metadata(places=[(index(), place(length=value))]))
        if value not in (2**31,):
            yield (
                f"begin-{at}",
                saved(metadata({"w": described([chunk((value,))])}, [(index(begin=(value,)), place())])),
            )
            yield f"size-{at}", saved(metadata({"w": described([chunk((0,), (value,))])}))
            yield f"shape-{at}", saved(metadata({"w": described(shape=(value,))}))
    names = ("../x", "/etc/passwd", "a/../../x", "..", "", "a//b", "C:\\x", "x\0", "x" * 5000, 7, None, b"x")
    for at, name in enumerate(names):
        yield f"file-{at}", saved(metadata(places=[(index(), place(name))]))
    yield "file-missing", saved(metadata(places=[(index(), place("__9_0.distcp"))]))
    yield "file-is-a-link-out", _linked
    yield "file-is-short", saved(metadata(), {FILE: PIECE[:-1]})
    yield "piece-in-too-few-bytes", saved(metadata(places=[(index(), place(length=8))]))
    yield "hole", saved(metadata({"w": described(shape=(5,))}))
    yield "hole-of-all-but-one", saved(metadata({"w": described(shape=(2**50,))}))
    yield "beyond-the-shape", saved(metadata({"w": described(shape=(3,))}))
    yield "other-axes", saved(metadata({"w": described(shape=(2, 2))}))
    yield "transformed", saved(metadata(places=[(index(), place(transform_descriptors=["zstd"]))]))
    yield "chunks-no-list", saved(metadata({"w": described({})}))
    yield "chunk-of-nothing", saved(metadata({"w": described([None])}))
    yield "chunks-within-themselves", saved(_cycle())
    yield "chunks-million-times-a-thousand", saved(_million_times_a_million())
    path = tuple(range(200))
    within = metadata(
        {"a": described(), "b": described()},
        [(index("a"), place()), (index("b"), place())],
        {"a": ("a",), "b": ("a", "b")},
    )
    yield "one-within-another", saved(within)
    yield "deep-path", saved(metadata(planner={"w": path}, places=[]))
    yield "rank-missing", ranks(distributed_tensor((shard(dim=0),)), PAIR[:1])
    yield "rank-of-many", ranks(distributed_tensor((shard(dim=0),)), ("model_world_size_9999999_rank_0.pt",))
    for at, axis in enumerate((-1, 1, 2**62, "0", None, 0.5)):
        yield f"cut-along-{at}", ranks(distributed_tensor((shard(dim=axis),)), PAIR)
    yield "no-placements", ranks(distributed_tensor(None), PAIR)
    yield (
        "placements-within-themselves",
        ranks(distributed_tensor(Code(put(Code(b"]"), 0) + b"(" + get(0) + b"e")), PAIR),
    )
    yield "no-mesh", ranks(distributed_tensor((shard(dim=0),), mesh=push({})), PAIR)
    yield (
        "part-of-another-size",
        ranks(distributed_tensor((shard(dim=0),), local=tensor(storage(), size=(3,))), PAIR),
    )
    tensor_header = {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    for at, begin in enumerate(([2**61], [-1], ["0"], [0, 0], 7, None, [True], [2**58])):
        yield f"shard-begins-{at}", shards(tensor_header, {"w": {"saved_offsets": begin}})
    yield "shard-of-no-json", shards(tensor_header, "{")
    yield "shard-of-deep-json", shards(tensor_header, "[" * 100_000)
    yield "shard-of-a-list", shards(tensor_header, [])


def cases() -> Iterator[Case]:
    good = ranks(distributed_tensor((shard(dim=0),)), PAIR)
    yield Case("pieces-good-ranks", "inert", good, tensors={"w": [1.0, 2.0, 1.0, 2.0]}, directory=True)
    yield Case("pieces-good", "inert", saved(metadata()), tensors={"w": VALUES}, directory=True)
    for name, make in _refused():
        yield Case(f"pieces-{name}", "refused", make, directory=True)
