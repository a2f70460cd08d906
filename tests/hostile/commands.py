"""Commands that meet hostile files and arguments: `tests.hostile.commands DIRECTORY PART OF` runs some.

A few at a time run in a process that is forked from one that has imported everything; a JSON line for each
says what went wrong, or nothing.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from tests.hostile.containers import safetensors
from tests.hostile.judge import forget_peak, peak

SECONDS = 2.0
"""Processor time that a command may take."""

MEMORY = 1 << 30
"""Bytes that a command may hold at most."""

LONGEST = 300
"""Characters of what it says, besides the directory of the case."""

BATCH = 16
"""Commands that one process runs: to fork is most of the cost of the smallest."""

Make = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        make: writes its files into an empty directory and returns the arguments.
        ends: "refused": exit code 1 and one line. "done": exit code 0. "either": one of the two.
        says: what the line must hold.
    """

    name: str
    make: Make
    ends: Literal["refused", "done", "either", "usage"] = "refused"
    says: str = ""
    seconds: float = SECONDS


@dataclass(frozen=True)
class Placed:
    """A command whose files are written.

    Attributes:
        files: what is in its directory before it runs.
    """

    command: Command
    directory: Path
    arguments: list[str]
    files: list[str]


def tensors(shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16", size: int = 2) -> bytes:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        count = 1
        for length in shape:
            count *= length
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + count * size]}
        at += count * size
    return safetensors(header, bytes(at))


def model(
    config: Any = None, shapes: Mapping[str, tuple[int, ...]] | None = None, *options: str, rules: str = ""
) -> Make:
    """A model directory: config.json (a text as it is), model.safetensors and, with `rules`, a rules file."""

    def make(directory: Path) -> list[str]:
        source = directory / "model"
        source.mkdir()
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (source / "config.json").write_text(text)
        (source / "model.safetensors").write_bytes(tensors(shapes or {"w": (2, 2)}))
        more = list(options)
        if rules:
            (directory / "rules.toml").write_text(rules)
            more += ["--rules", str(directory / "rules.toml")]
        return [str(source), "-o", str(directory / "out"), *more]

    return make


def main() -> None:
    from tests.hostile.command_cases import commands

    directory, part, of = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _import_everything()
    gc.freeze()  # a collection in a child would copy every page that it shares
    waiting = deque(_place(command, directory) for command in commands()[part::of])
    while waiting:
        for placed, found in _run([waiting.popleft() for _ in range(min(BATCH, len(waiting)))], waiting):
            print(json.dumps({"name": placed.command.name, **found}), flush=True)


def _import_everything() -> None:
    import importlib
    import pkgutil

    import wconv

    for found in pkgutil.walk_packages(wconv.__path__, "wconv."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def _place(command: Command, directory: Path) -> Placed:
    own = Path(tempfile.mkdtemp(dir=directory))
    return Placed(command, own, command.make(own), sorted(os.listdir(own)))


def _run(batch: list[Placed], waiting: deque[Placed]) -> Iterator[tuple[Placed, dict[str, Any]]]:
    """What became of each command of a batch, which share one child.

    One that does not end, or ends the child, has its fault; those after it go back to those that wait.
    """
    measured, child_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_all(batch, child_end)
    os.close(child_end)
    with open(measured) as lines:
        for at, placed in enumerate(batch):
            ready = select.select([lines], [], [], 6 * placed.command.seconds)[0]
            line = lines.readline() if ready else ""
            if not line:
                os.kill(pid, signal.SIGKILL)
                waiting.extendleft(reversed(batch[at + 1 :]))
                yield placed, {"fault": "ended the process" if ready else "did not end"}
                break
            yield placed, _judge(placed, *json.loads(line))
    os.waitpid(pid, 0)


def _judge(placed: Placed, code: int, seconds: float, peak: int) -> dict[str, Any]:
    said = (placed.directory / ".stderr").read_text(errors="replace").replace(str(placed.directory), "")
    left = sorted(set(os.listdir(placed.directory)) - set(placed.files) - {".stdout", ".stderr"})
    fault = fault_of(placed.command, code, said, left, seconds, peak)
    return {"fault": fault, "seconds": round(seconds, 3), "peak": peak >> 20, "said": said[:400]}


def _run_all(batch: list[Placed], measured: int) -> NoReturn:
    """In the child: one command after the other; of each a line with its exit code, seconds and memory."""
    for placed in batch:
        forget_peak()
        began = time.process_time()
        code = _become(placed.arguments, placed.directory / ".stdout", placed.directory / ".stderr")
        line = json.dumps((code, time.process_time() - began, peak()))
        os.write(measured, f"{line}\n".encode())
        gc.collect()
    os._exit(0)


def _become(arguments: list[str], out: Path, errors: Path) -> int:
    """The command, its output in files; its exit code."""
    for number, path in ((1, out), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = ["wconv", *arguments]
    from wconv.cli.program import main as command

    try:
        command()
        code: Any = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


def fault_of(
    command: Command, code: int, said: str, left: list[str], seconds: float, peak: int
) -> str | None:
    if code not in {"refused": (1,), "done": (0,), "either": (0, 1), "usage": (2,)}[command.ends]:
        return f"ended with {code}: {said[-500:]}"
    if seconds > command.seconds:
        return f"took {seconds:.1f} s"
    if peak > MEMORY:
        return f"took {peak >> 20} MiB"
    if code == 0:
        return None
    if left:
        return f"left {left}"
    if command.ends != "usage" and (said.count("\n") != 1 or not said.startswith("wconv: ")):
        return f"is not one line: {said[:500]!r}"
    if len(max(said.splitlines(), key=len)) > LONGEST:
        return f"says it in {len(said)} characters: {said[:300]}"
    if not all(line.isprintable() for line in said.splitlines()):
        return f"has other characters than printable ones: {said[:300]!r}"
    if command.says not in said:
        return f"does not say {command.says!r}: {said[:300]}"
    return None


if __name__ == "__main__":
    main()
