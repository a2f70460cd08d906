"""One way through the house: what each room may import, and that no files import each other in a circle."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import wconv
from wconv.consumers.lay_out import HUB
from wconv.consumers.registry import CONSUMERS

ROOT = Path(wconv.__file__).parent

OPEN_TO_ALL = {"errors", "extras", "machine", "old_names", "wording"}
"""Modules that every room may import; they import nothing of the house but each other."""

MAY_IMPORT: dict[str, set[str]] = {
    "stores": set(),
    "tensors": {"stores"},
    "formats": {"tensors", "stores"},
    "checkpoints": {"formats", "quantized", "tensors", "stores"},
    "quantized": {"tensors"},
    "layouts": {"quantized", "tensors", "stores", "formats.modules"},
    "consumers": {"layouts", "quantized", "tensors", "formats.modules"},
    "lora": {
        "checkpoints",
        "consumers",
        "layouts",
        "quantized",
        "tensors",
        "formats.json_text",
        "formats.side_files",
    },
    "optimizers": {"checkpoints", "consumers", "layouts", "tensors", "formats"},
    "writing": {"formats", "tensors", "stores"},
    "engines": set(),
    "conversion": {
        "engines",
        "stores",
        "tensors",
        "formats",
        "checkpoints",
        "quantized",
        "layouts",
        "consumers",
        "lora",
        "optimizers",
        "writing",
    },
    "examine": {
        "opening",
        "checkpoints",
        "consumers",
        "layouts",
        "formats",
        "quantized",
        "tensors",
        "stores",
        "writing",
        "conversion",
    },
    "opening": {"checkpoints", "consumers"},
    "api": {
        "opening",
        "conversion",
        "writing",
        "lora",
        "checkpoints",
        "consumers",
        "layouts",
        "formats",
        "tensors",
        "stores",
    },
    "mlx": {"conversion", "checkpoints", "consumers", "layouts", "formats", "tensors", "writing"},
    "torch": {"formats", "tensors", "stores", "writing"},
    "testing": {
        "checkpoints",
        "formats",
        "layouts",
        "consumers",
        "tensors",
        "stores",
        "writing",
        "conversion",
    },
    "gguf": {"opening", "conversion", "quantized", "torch"},
    "cli": {
        "gguf",
        "api",
        "opening",
        "conversion",
        "engines",
        "examine",
        "consumers",
        "layouts",
        "checkpoints",
        "tensors",
    },
}
"""Room → what it may import beside its own files; a dotted name is that module alone."""


def modules() -> dict[str, Path]:
    """Every module below the top, by its dotted name without the package's."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("", "__main__"):
            found[name] = path
    return found


MODULES = modules()


@functools.cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """The modules that a file imports, late ones and those for type checkers too, and their lines."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "wconv":
            home = node.module.partition(".")[2]
            for alias in node.names:
                full = f"{home}.{alias.name}".lstrip(".")
                yield (full if full in MODULES else home), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("wconv."):
                    yield alias.name.partition(".")[2], node.lineno


def test_every_room_imports_only_what_it_may() -> None:
    wrong = []
    for name, path in MODULES.items():
        room = name.partition(".")[0]
        for imported, line in imports(path):
            other = imported.partition(".")[0]
            allowed = MAY_IMPORT.get(room, set())
            if imported and other not in {room, *OPEN_TO_ALL, *allowed} and imported not in allowed:
                wrong.append(f"{path.relative_to(ROOT.parent)}:{line}: {room} may not import {imported}")
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_table() -> None:
    assert {name.partition(".")[0] for name in MODULES} <= {*MAY_IMPORT, *OPEN_TO_ALL}


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: {one for one, _ in imports(path) if one and one != name} for name, path in MODULES.items()}
    circles = [group for group in strongly_connected(graph) if len(group) > 1]
    assert not circles, "\n".join(" ↔ ".join(sorted(group)) for group in circles)


def strongly_connected(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of nodes that reach each other."""

    def reached(start: str, edges: dict[str, set[str]]) -> set[str]:
        seen, left = {start}, [start]
        while left:
            for other in edges.get(left.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    left.append(other)
        return seen

    backwards: dict[str, set[str]] = {}
    for name, others in graph.items():
        for other in others:
            backwards.setdefault(other, set()).add(name)
    groups: list[set[str]] = []
    placed: set[str] = set()
    for name in graph:
        if name not in placed:
            group = reached(name, graph) & reached(name, backwards)
            placed |= group
            groups.append(group)
    return groups


ABOUT_PROGRAMS = {
    "cli/convert.py": "the help tells what people know by a program's name",
    "consumers/adapters/naming.py": "names of modules pass through diffusers' on the way from any to any",
    "lora/image.py": "the same",
    "lora/convert.py": "adapters' forms are called after the programs that made them up",
    "lora/language.py": "the same, from PEFT's to mlx-lm's and back",
    "lora/peft.py": "the same",
    "lora/read.py": "the same",
    "quantized/schemes.py": "schemes are called after the programs that write them",
}
"""Files outside a program's folder whose strings may name one, and why."""


def test_programs_are_named_in_their_own_folders_alone() -> None:
    """All else asks the registry, so that a new program is a folder and a row.

    The hub's form is no program's own: "hf" is what everything can be laid back to.
    """
    programs = [one for one in CONSUMERS if one.layout_name != HUB]
    names = {name for one in programs for name in (one.name, one.layout_name)}
    words = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, names | PACKAGES))})(?![\w-])", re.IGNORECASE)
    folders = [path.parent for path in ROOT.glob("consumers/*/consumer.py")]
    found: dict[str, list[str]] = {}
    for path in MODULES.values():
        if not any(folder in path.parents for folder in folders):
            lines = [f"{path.name}:{line}: {text:.80}" for line, text in strings(path) if words.search(text)]
            if lines:
                found[path.relative_to(ROOT).as_posix()] = lines
    assert found.keys() == ABOUT_PROGRAMS.keys(), found


PACKAGES = {"mlx_lm", "mlx_vlm", "mlx_whisper"}
"""Programs' names in Python."""


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a file and their lines, but for those that document it."""
    tree = ast.parse(path.read_text())
    documenting = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documenting:
            yield node.lineno, node.value


def test_public_functions_and_classes_say_what_they_do() -> None:
    """All but the tensor shim's, which are torch's by name and by meaning."""
    silent = [
        f"{path.relative_to(ROOT.parent)}:{node.lineno}: {node.name}"
        for name, path in MODULES.items()
        if name.partition(".")[0] != "torch"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent, "\n".join(silent)


def test_files_are_short_and_need_no_section_headers() -> None:
    """A file of more than 400 lines, or one that needs headers within, is two files."""
    wrong = []
    for path in MODULES.values():
        lines = path.read_text().splitlines()
        wrong += [f"{path.name}: {len(lines)} lines"] if len(lines) > 400 else []
        wrong += [f"{path.name}: {line}" for line in lines if re.match(r"# ?[-=#]{2,}", line)]
    assert not wrong, "\n".join(wrong)


def test_no_two_classes_have_one_name() -> None:
    """All but the tensor shim's, whose names are torch's."""
    homes: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body if name.partition(".")[0] != "torch" else ():
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name)
    twice = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert twice.keys() <= {"Call", "Place", "Quantized", "Value"}, twice  # no more than there are
