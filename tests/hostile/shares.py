"""What other trainers save, telling lies: ZeRO's shares, shards, Megatron's ranks, and Orbax's trees."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.formats.zarr import trees
from tests.formats.zarr.trees import Value
from tests.hostile.assemble import Code, build, by_global, call, get, newobj, push, put, storage, tensor
from tests.hostile.case import Case
from tests.hostile.code import SYSTEM
from tests.hostile.containers import VALUES, WEIGHTS, torch_zip
from tests.hostile.pieces import PAIR, ranks, size

Make = Callable[[Path], Path]
MODEL, SHARE = "mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"
HUGE = (2**62, 2**63, 10**30, -1, 1.5, "0", None)
ITSELF = Code(put(Code(b"]"), 0) + b"(" + get(0) + b"e")


def written(files: dict[str, bytes], link: tuple[str, str] | None = None) -> Make:
    """A directory of files, and perhaps a link."""

    def write(directory: Path) -> Path:
        for name, data in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
        if link is not None:
            (directory / link[0]).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(link[1], directory / link[0])
        return directory

    return write


def zero(shares: Any = None, more: dict[str, Any] | None = None, files: Any = None, **state: Any) -> Make:
    """A checkpoint of one rank, of which parts are as told."""
    model = {"module": {}, "buffer_names": [], "param_shapes": [{"w": size(4)}], **state}
    held = {
        "zero_stage": 2,
        "partition_count": 1,
        "single_partition_of_fp32_groups": [tensor()] if shares is None else shares,
        **(more or {}),
    }
    optimizer = {"optimizer_state_dict": held}
    return written({MODEL: torch_zip(push(model)), SHARE: torch_zip(push(optimizer)), **(files or {})})


def sharded(begin: Any = (0,), local: Any = None, shape: tuple[Any, ...] = (4,), shards: Any = None) -> Code:
    """A `ShardedTensor` of one shard."""
    base = "torch.distributed._shard"
    metadata = build(newobj(by_global(f"{base}.metadata", "ShardMetadata")), {"shard_offsets": begin})
    part = tensor(storage(), size=(2,)) if local is None else local
    shard = build(
        newobj(by_global(f"{base}.sharded_tensor.shard", "Shard")), {"tensor": part, "metadata": metadata}
    )
    cls = by_global(f"{base}.sharded_tensor.api", "ShardedTensor")
    arguments = (cls, by_global("torch", "float32"), size(*shape), size(1), 0, None, None, False)
    function = by_global("torch._utils", "_rebuild_wrapper_subclass")
    held = [shard] if shards is None else shards
    return call("torch._tensor", "_rebuild_from_type_v2", function, cls, arguments, (held, None, None))


ARRAY = {"chunks": [4], "compressor": None, "dtype": "<f4", "shape": [4], "zarr_format": 2}


def orbax(
    node: bytes | None = None, *, names: tuple[str, ...] = ("d/x",), metadata: Any = None, **how: Any
) -> Make:
    """A tree of one array."""

    def write(directory: Path) -> Path:
        entries = [(b"w/.zarray", Value(json.dumps(ARRAY).encode())), (b"w/0", Value(file=0, length=16))]
        trees.write(directory, trees.leaf(entries, names) if node is None else node, before=WEIGHTS, **how)
        if metadata is not None:
            (directory / "_METADATA").write_text(
                metadata if isinstance(metadata, str) else json.dumps(metadata)
            )
        return directory

    return write


def array(**changed: Any) -> Make:
    text = json.dumps({**ARRAY, **changed}).encode()
    return orbax(trees.leaf([(b"w/.zarray", Value(text)), (b"w/0", Value(WEIGHTS))]))


def _zero() -> Iterator[tuple[str, Make]]:
    for at, value in enumerate(HUGE):
        yield f"shape-{at}", zero(param_shapes=[{"w": size(value)}])
        yield f"count-{at}", zero(more={"partition_count": value})
        if value is not None:
            # DeepSpeed's optimizer for bfloat16 has no stage
            yield f"stage-{at}", zero(more={"zero_stage": value})
        yield f"padding-{at}", zero(more={"param_alignment_paddings": [[value]]})
    yield "more-than-there-is", zero(param_shapes=[{"w": size(400)}])
    yield "less-than-there-is", zero([tensor(storage(numel=4), size=(2,))])
    yield "groups-within-themselves", zero(param_shapes=ITSELF)
    yield "shares-within-themselves", zero(ITSELF)
    yield "no-shares", zero({})
    yield "runs-code", zero([SYSTEM])
    yield "module-runs-code", zero(module={"w": SYSTEM})
    yield "frozen-and-nowhere", zero(frozen_param_shapes={"f": size(4)})
    yield (
        "frozen-is-too-large",
        zero(frozen_param_shapes={"f": size(2**62)}, frozen_param_fragments={"f": tensor()}),
    )
    yield (
        "expert-of-nothing",
        zero(files={"layer_0_expert_0_mp_rank_00_model_states.pt": torch_zip(push({}))}),
    )
    expert = {"a.deepspeed_experts.0.w": tensor()}
    yield (
        "expert-without-shares",
        zero(files={"layer_0_expert_0_mp_rank_00_model_states.pt": torch_zip(push(expert))}),
    )
    yield (
        "expert-of-a-million",
        zero(files={"layer_999999_expert_999999_mp_rank_00_model_states.pt": torch_zip(push(expert))}),
    )
    yield "latest-leads-out", written({"latest": b"../../etc"})
    universal = {MODEL: torch_zip(push({"module": {}, "param_shapes": [{"w": size(4)}]}))}
    yield (
        "universal-is-a-link",
        written({**universal, "zero/a/fp32.pt": torch_zip(tensor())}, ("zero/w/fp32.pt", "/etc/passwd")),
    )


def _others() -> Iterator[tuple[str, Make]]:
    for at, value in enumerate(HUGE):
        yield f"shard-begins-{at}", ranks(sharded((value,)), PAIR)
    yield "shard-begins-nowhere", ranks(sharded(ITSELF), PAIR)
    yield "shard-leaves-a-hole", ranks(sharded((0,)), PAIR)
    yield "shard-of-two-axes", ranks(sharded((0, 0)), PAIR)
    yield "shard-beyond", ranks(sharded((3,)), PAIR)
    yield "shards-within-themselves", ranks(sharded(shards=ITSELF), PAIR)
    yield "shards-of-nothing", ranks(sharded(shards=[]), PAIR)
    yield "shard-runs-code", ranks(sharded(local=SYSTEM), PAIR)
    place = "mp_rank_{}/model_optim_rng.pt"
    for at, value in enumerate((*HUGE, ITSELF, SYSTEM)):
        yield f"megatron-model-{at}", written({place.format("00"): torch_zip(push({"model": value}))})
    for at, value in enumerate((-1, 1, "0", None, ITSELF)):
        state = {"model": {"w": tensor()}, "checkpoint_version": value}
        yield f"megatron-version-{at}", written({place.format("00"): torch_zip(push(state))})
    one = torch_zip(push({"model": {"w": tensor()}}))
    yield "megatron-rank-missing", written({place.format("00"): one, place.format("03"): one})
    yield "megatron-is-a-link", written({}, (place.format("00"), "/etc/passwd"))


def _orbax() -> Iterator[tuple[str, Make]]:
    for at, name in enumerate(("../x", "/etc/passwd", "d/../../x", "d//x", "d\\x", "x" * 5000)):
        yield f"file-{at}", orbax(names=(name,))
        yield f"root-{at}", orbax(name=name)
    for at, value in enumerate((*HUGE, 10**12, [])):
        yield f"shape-{at}", array(shape=[value])
        yield f"chunks-{at}", array(chunks=[value])
    yield "chunks-of-a-trillion-elements", array(shape=[10**12], chunks=[1])
    yield "packed-by-nobody", array(compressor={"id": "nobody"})
    yield "no-metadata", orbax(trees.leaf([(b"w/0", Value(WEIGHTS))]))
    yield "metadata-of-nothing", orbax(metadata=[])
    yield "metadata-no-json", orbax(metadata="{")
    yield "metadata-deep", orbax(metadata="[" * 100_000)
    yield "metadata-of-another", orbax(metadata={"tree_metadata": {"a": 7}})
    leaf = {"key_metadata": [{"key": "other"}], "value_metadata": {"value_type": "jax.Array"}}
    yield "metadata-of-more", orbax(metadata={"tree_metadata": {"a": leaf}})
    yield "metadata-twice", orbax(metadata={"tree_metadata": {"a": leaf, "b": leaf}})
    yield "is-a-link", written({}, ("manifest.ocdbt", "/etc/passwd"))
    yield "manifest-of-nothing", written({"manifest.ocdbt": b""})
    yield "manifest-of-zeros", written({"manifest.ocdbt": bytes(4096)})


def cases() -> Iterator[Case]:
    yield Case("shares-good-zero", "inert", zero(), tensors={"w": VALUES}, directory=True)
    yield Case("shares-good-orbax", "inert", orbax(), tensors={"w": VALUES}, directory=True)
    for kind, refused in (("zero", _zero), ("others", _others), ("orbax", _orbax)):
        for name, make in refused():
            yield Case(f"shares-{kind}-{name}", "refused", make, directory=True)
