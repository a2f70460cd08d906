"""Nodes with several outputs: tensors that are computed together, in one pass over what they are made of.

A pass goes by steps: step `n` gives elements `n * e` to `(n + 1) * e` of an output of `e` elements a step.
For a quantized matrix a step is a row, or some groups of one: of its codes, its scales and its biases.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from wconv.tensors.base import Array, LazyTensor, Shape, parents_of, replaced_parents
from wconv.tensors.dtypes import DType
from wconv.tensors.nodes import CastNode, ReshapeNode, by_blocks


class MultiNode(ABC):
    """An operation with several outputs, immutable and picklable; each of them is a lazy tensor, too.

    Subclasses are dataclasses with `eq=False`: which node an output belongs to is told by identity. They
    provide `results`, `steps` and `read_into`, and name their parents as a `LazyTensor` does.
    """

    __slots__ = ()

    PARENTS: ClassVar[tuple[str, ...]] = ("parent",)
    """Names of the fields that hold what it is computed of."""

    @property
    @abstractmethod
    def results(self) -> tuple[tuple[DType, Shape], ...]:
        """Dtype and shape of each output."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Into how many equal parts every output can be cut: the size of each is a multiple of it."""

    @abstractmethod
    def read_into(self, first_step: int, last_step: int, outs: Sequence[Array | None]) -> None:
        """Computes steps `first_step` to `last_step` (one past the last) of the outputs.

        Args:
            outs: for each output a 1-D contiguous array of its dtype, of as many steps' elements; None
                where it is not wanted.

        Raises:
            FormatError: a source does not hold what its header promised.
            ComputedOverflowError: what is computed of finite values is not finite.
        """

    @property
    def block_size(self) -> int:
        """Steps that are cheapest computed together, counted from 0."""
        return 1

    @property
    def parents(self) -> tuple[LazyTensor, ...]:
        """The lazy tensors that it is computed of."""
        return parents_of(self, self.PARENTS)

    def with_parents(self, *parents: LazyTensor) -> MultiNode:
        """The same operation on other tensors; raises ValueError where it has another number of them."""
        made: MultiNode = replaced_parents(self, self.PARENTS, parents)
        return made

    @property
    def step_sizes(self) -> tuple[int, ...]:
        """Elements of each output in one step."""
        return tuple(math.prod(shape) // max(self.steps, 1) for _, shape in self.results)

    @property
    def step_nbytes(self) -> int:
        """Bytes that one step reads or gives, whichever is more: by it units of work are measured."""
        read = sum(parent.nbytes for parent in self.parents)
        written = sum(dtype.nbytes(math.prod(shape)) for dtype, shape in self.results)
        return max(read, written) // max(self.steps, 1)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Its results as lazy tensors."""
        return tuple(Output(self, index) for index in range(len(self.results)))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Output(LazyTensor):
    """One of the tensors that a node computes together; read alone, the others are not wanted."""

    node: MultiNode
    index: int

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.node.results[self.index][0]

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.node.results[self.index][1]

    @property
    def parents(self) -> tuple[LazyTensor, ...]:
        return self.node.parents

    def with_parents(self, *parents: LazyTensor) -> LazyTensor:
        return Output(self.node.with_parents(*parents), self.index)

    @property
    def block_size(self) -> int:
        return max(self.node.block_size * self.node.step_sizes[self.index], 1)

    @property
    def file_position(self) -> tuple[str, int]:
        parents = self.node.parents
        return parents[0].file_position if parents else ("", 0)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self.node.step_sizes[self.index], self._steps)

    def _steps(self, first: int, last: int, out: Array) -> None:
        outs: list[Array | None] = [None] * len(self.node.results)
        outs[self.index] = out
        self.node.read_into(first, last, outs)


def output_of(tensor: LazyTensor) -> Output | None:
    """The output that a tensor is, be it in another shape; None where it is not one."""
    while isinstance(tensor, ReshapeNode):
        tensor = tensor.parent
    return tensor if isinstance(tensor, Output) else None


def may_hold_outputs(tensors: Iterable[LazyTensor]) -> bool:
    """Whether `output_of` can find one among them: told by types alone, of tens of thousands at once."""
    return not {Output, CastNode, ReshapeNode}.isdisjoint(map(type, tensors))
