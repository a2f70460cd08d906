"""What the site has beside wconv/docs: the README, the guides of .github/, and API pages of the public names.

The public names are those of `wconv.__all__`, a page for each module in which some are defined. So a name
that becomes public is on a page without a change here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent

COPIED = {
    "index.md": "README.md",
    "contributing.md": ".github/CONTRIBUTING.md",
    "changes.md": ".github/CHANGELOG.md",
    "security.md": ".github/SECURITY.md",
}
"""Page of the site → file of the repository."""

DECISIONS = sorted((ROOT / ".github" / "decisions").glob("*.md"))

TITLES = {
    "convert": "Converting",
    "load": "Loading and saving",
    "open": "Checkpoints",
    "Layout": "Layouts",
    "LazyTensor": "Lazy tensors",
    "Report": "Reports",
    "WconvError": "Errors",
}
"""Titles of the API pages, by a public name that each is about; other pages go by their module's name."""

MORE = {
    "patterns": ("Patterns of names", "wconv.layouts.patterns"),
    "torch": ("wconv.torch", "wconv.torch"),
}
"""Public modules that `wconv` itself does not name."""


def public() -> dict[str, list[str]]:
    """Module → public names that are defined there, as `wconv/__init__.py` imports them for type checkers."""
    tree = ast.parse((ROOT / "wconv" / "__init__.py").read_text())
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wconv."):
            found.setdefault(str(node.module), []).extend(alias.name for alias in node.names)
    return found


def makers() -> Iterator[str]:
    """The functions that make rules: those of wconv/layouts/rules.py that return a class."""
    tree = ast.parse((ROOT / "wconv" / "layouts" / "rules.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name):
            yield from [node.name] if node.returns.id[0].isupper() else []


def pages() -> Iterator[tuple[str, str, str]]:
    """Path, title and Markdown of each API page."""
    for module, names in public().items():
        title = next((title for name, title in TITLES.items() if name in names), module)
        text = "\n\n".join(f"::: wconv.{name}" for name in names)
        yield f"api/{module.rpartition('.')[2]}.md", title, f"# {title}\n\n{text}\n"
    rules = "\n\n".join(f"::: wconv.layouts.rules.{name}" for name in makers())
    yield "api/rules.md", "Rules", f"# Rules\n\n{rules}\n"
    for name, (title, module) in MORE.items():
        yield f"api/{name}.md", title, f"# {title}\n\n::: {module}\n"


def on_config(config: Any) -> Any:
    """Puts the pages that are found into the navigation."""
    for entry in config.nav:
        if "API" in entry:
            entry["API"] = [{title: path} for path, title, _ in pages()]
        if "Decisions" in entry:
            entry["Decisions"] = [f"decisions/{path.name}" for path in DECISIONS]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that do not lie in wconv/docs."""
    for name, source in COPIED.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    for decision in DECISIONS:
        files.append(File.generated(config, f"decisions/{decision.name}", content=decision.read_text()))
    for path, _, text in pages():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Lists get the empty line before them that this Markdown wants; pages that are named become links."""
    markdown = re.sub(r"(?m)^(?![-|*\s#])(.+\n)(?=- )", r"\1\n", markdown)
    return re.sub(r"`wconv docs ([a-z-]+)`", rf"[`wconv docs \1`]({_up(page)}\1.md)", markdown)


def _up(page: Any) -> str:
    return "../" * page.file.src_uri.count("/")
