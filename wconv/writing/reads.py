"""What writing a shard reads of files elsewhere, in its order: told to the stores before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wconv.stores.expected import Read
from wconv.stores.files import remote_of
from wconv.tensors.base import LazyTensor
from wconv.tensors.lazy import FileTensor, PackedFileTensor
from wconv.tensors.nodes import CastNode, ReshapeNode, SliceNode
from wconv.writing.chunks import outputs_together
from wconv.writing.plan import Shard


def reads(shard: Shard) -> Iterator[Read]:
    """The ranges of files elsewhere that a shard is made of, in the order of its entries."""
    passes = outputs_together(shard.entries)
    for at, entry in enumerate(shard.entries):
        if passes.get(at) != []:  # the others of a node's outputs come with its first
            yield from _reads((entry.uncast,))


def _reads(tensors: Iterable[LazyTensor], *, again: bool = False) -> Iterator[Read]:
    for tensor in tensors:
        if isinstance(tensor, FileTensor | PackedFileTensor):
            yield from _range(tensor, 0, tensor.size, again)
        elif isinstance(tensor, SliceNode) and isinstance(leaf := _leaf(tensor.parent), FileTensor):
            for start, stop in tensor.segments():
                yield from _range(leaf, start, stop, again)
        else:
            yield from _reads(tensor.parents, again=again or tensor.passes > 1)


def _leaf(tensor: LazyTensor) -> LazyTensor:
    """What a tensor's elements are, one for one."""
    while isinstance(tensor, ReshapeNode | CastNode):
        tensor = tensor.parent
    return tensor


def _range(leaf: FileTensor | PackedFileTensor, start: int, stop: int, again: bool) -> Iterator[Read]:
    remote = remote_of(leaf.path)
    if remote is not None and not remote.local and stop > start:
        first, last = (leaf.dtype.nbytes(count) for count in (start, stop))
        yield Read(remote, leaf.offset + first, leaf.offset + last, again)


def are_elsewhere(shards: Iterable[Shard]) -> bool:
    """Whether any shard is made of files elsewhere."""
    return any(next(reads(shard), None) is not None for shard in shards)
