"""Commands that meet hostile files and arguments: `tests.hostile.commands DIRECTORY PART OF` runs some.

Each runs in a process of its own, forked from one that has imported everything; a JSON line for each says
what went wrong, or nothing.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.hostile.containers import safetensors

SECONDS = 2.0
"""Processor time that a command may take."""

MEMORY = 1 << 30
"""Bytes that a command may hold at most."""

LONGEST = 300
"""Characters of what it says, besides the directory of the case."""

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
    for number, command in enumerate(commands()[part::of]):
        own = directory / f"{number:03}"
        own.mkdir()
        print(json.dumps({"name": command.name, **_run(command, own)}), flush=True)


def _import_everything() -> None:
    import importlib
    import pkgutil

    import wconv

    for found in pkgutil.walk_packages(wconv.__path__, "wconv."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def _run(command: Command, directory: Path) -> dict[str, Any]:
    arguments = command.make(directory)
    before = sorted(os.listdir(directory))
    out, errors = directory / ".stdout", directory / ".stderr"
    pid = os.fork()
    if pid == 0:
        _become(arguments, out, errors)
    deadline = time.monotonic() + 6 * command.seconds
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return {"fault": "did not end"}
        time.sleep(0.005)
    seconds = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    said = errors.read_text(errors="replace").replace(str(directory), "")
    left = sorted(set(os.listdir(directory)) - set(before) - {".stdout", ".stderr"})
    measured = {"seconds": round(seconds, 3), "peak": peak >> 20, "said": said[:400]}
    return {
        "fault": fault_of(command, os.waitstatus_to_exitcode(status), said, left, seconds, peak),
        **measured,
    }


def _become(arguments: list[str], out: Path, errors: Path) -> None:
    """In the child: the command, its output in files."""
    for number, path in ((1, out), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w")
    sys.argv = ["wconv", *arguments]
    from wconv.cli.program import entry

    try:
        entry()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


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
