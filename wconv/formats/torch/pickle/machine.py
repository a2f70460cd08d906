"""A pickle machine that cannot run code.

The contract, which the code below keeps and the tests check:

1. The opcodes in `opcodes` and in `Machine._loop` are all that exist (protocols 0 to 5, without the
   extension registry and out-of-band buffers). Any other byte ends the reading.
2. A name (GLOBAL, STACK_GLOBAL, INST) is looked up in the table that the caller passes, and nowhere else:
   nothing is imported, no attribute of anything is fetched by a name from the file.
3. Only a `Constructor` of that table is ever called (REDUCE, NEWOBJ, OBJ, INST), and those are functions of
   wconv that check their arguments. Calling anything else makes a `Record`, which only remembers.
   BUILD, APPENDS, SETITEMS and ADDITEMS touch exact dicts, lists, sets and the classes of `objects`.
4. Names of modules that act on the machine (`contract.FORBIDDEN`) may be told, as hyper-parameters
   are; to call one, or to hand one to a call, is refused outright, to say what the file tried.
5. Memory is taken only for bytes that the file has: lengths are checked first; the memo is a list that
   cannot be longer than the program read so far; everything else that is made is charged against
   `BUDGET`. The program itself is read in windows and may have `PROGRAM_LIMIT` bytes.
6. Keys of dicts and members of sets are hashed only when they are scalars, names, records (by identity) or
   shallow tuples of those, so that no nesting can overflow the stack or double the work; numbers whose
   hashes could be made to collide are refused.
7. Bad input raises `FormatError` or `UnsafeError`, nothing else.
"""

from __future__ import annotations

import struct
from typing import Any

from wconv.errors import UnsafeError
from wconv.formats.torch.pickle import codes
from wconv.formats.torch.pickle.contract import BUDGET, MARGIN, MARKS
from wconv.formats.torch.pickle.opcodes import HANDLERS
from wconv.formats.torch.pickle.state import (
    Constructor,
    MachineState,
    MissingValue,
    OmittedValueNeeded,
    PickleEnd,
)


class Machine(MachineState):
    """One run over one pickle; takes what `MachineState` takes."""

    def run(self) -> Any:
        """The object that the pickle describes.

        Raises:
            FormatError: the pickle is damaged, truncated, or uses something that does not exist.
            UnsafeError: it asks for something that no weights need.
        """
        start = self.base
        while True:
            try:
                return self._run()
            except OmittedValueNeeded:
                self.stack, self.marks, self.memo = [], [], []
                self.budget, self.nested, self.key_numbers = BUDGET, 0, 0
                self.base, self.program, self.overwritten = start, 0, False
                self.shortcuts.popitem()

    def _run(self) -> Any:
        try:
            self.refill(0)
            self._loop()
        except PickleEnd:
            return self.stack[-1]
        except (IndexError, struct.error):
            raise self.damaged("it ends early or uses what is not there") from None
        except UnicodeDecodeError:
            raise self.damaged("a string is not valid text") from None
        raise AssertionError("the loop ends by an exception")

    def _loop(self) -> None:
        # the opcodes that every tensor takes several times are handled here, the others by the table
        handlers = HANDLERS
        long_binput, binput, binget, binint1 = codes.LONG_BINPUT, codes.BINPUT, codes.BINGET, codes.BININT1
        mark_code, tuple_code, long_binget = codes.MARK, codes.TUPLE, codes.LONG_BINGET
        newobj = codes.NEWOBJ
        binunicode, reduce, memoize = codes.BINUNICODE, codes.REDUCE, codes.MEMOIZE
        stack, marks, memo = self.stack, self.marks, self.memo
        push = stack.append
        shortcuts = self.shortcuts
        data, safe, at = self.window, self.safe, 0
        while True:
            if at > safe:
                at = self.refill(at)
                data, safe = self.window, self.safe
            code = data[at]
            at += 1
            if code == long_binput or code == binput:  # noqa: SIM109 (a tuple costs more)
                if code == long_binput:
                    index = int.from_bytes(data[at : at + 4], "little")
                    at += 4
                else:
                    index = data[at]
                    at += 1
                if index == len(memo):
                    memo.append(stack[-1])
                else:
                    self.put(index, at)
            elif code == memoize:
                memo.append(stack[-1])
                self.budget -= 8
            elif code == binget or code == long_binget:  # noqa: SIM109
                if code == binget:
                    value = memo[data[at]]
                    at += 1
                else:
                    value = memo[int.from_bytes(data[at : at + 4], "little")]
                    at += 4
                kind = type(value)
                if kind is Constructor:
                    shortcut = shortcuts.get(value)
                    if shortcut is not None:
                        after = shortcut(self, data, at)
                        if after != at:
                            # the function is not pushed: its result is there already
                            at = after
                            continue
                elif kind is MissingValue:
                    self.missing(value)
                push(value)
            elif code == binint1:
                push(data[at])
                at += 1
            elif code == mark_code:
                marks.append(len(stack))
                if len(marks) > MARKS:
                    raise UnsafeError(f"{self.source.where} holds objects in {MARKS:,} others: refused")
            elif code == tuple_code:
                mark = marks.pop()
                items = tuple(stack[mark:])
                stack[mark:] = (items,)
                self.budget -= 56 + 8 * len(items)
            elif code == binunicode:
                count = int.from_bytes(data[at : at + 4], "little")
                stop = at + 4 + count
                if count < MARGIN // 2:
                    text = data[at + 4 : stop]
                    if len(text) != count:
                        raise self.damaged("it ends within a string")
                    push(str(text, "utf-8", "surrogatepass"))
                    self.budget -= 56 + count
                    at = stop
                else:
                    at = self.long_text(at + 4, count)
                    data, safe = self.window, self.safe
            elif code == reduce or code == newobj:  # noqa: SIM109
                args = stack.pop()
                function = stack[-1]
                if type(function) is Constructor and type(args) is tuple and not self.wary:
                    stack[-1] = function.call(self, args)
                else:
                    stack[-1] = self.construct(function, args)
            else:
                at = handlers[code](self, at)
                if self.window is not data:
                    data, safe = self.window, self.safe
