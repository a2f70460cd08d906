"""What the README shows is true: its table comes from the tables, its example runs.

`python -m tests.test_readme` writes the table anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wconv
from tests.making import random, write_directory
from wconv import layouts

README = Path(__file__).parent.parent / "README.md"
TABLE = re.compile(r"(<!-- supported: .*? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def supported() -> str:
    """The table of the models that have rules."""
    rows: dict[tuple[str, str], list[str]] = {}
    for consumer, model_type, verbs in layouts.describe():
        rows.setdefault((consumer, verbs), []).append(f"`{model_type}`")
    lines = ["| consumer | model_type | what the rules do |", "|---|---|---|"]
    lines += [f"| {consumer} | {', '.join(types)} | {verbs} |" for (consumer, verbs), types in rows.items()]
    return "\n".join(lines) + "\n"


def test_the_table_of_models_is_the_tables() -> None:
    found = TABLE.search(README.read_text())
    assert found is not None
    assert found[2] == supported(), "run python -m tests.test_readme"


def test_the_example_of_the_library_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"## As a library\n\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    config = {"model_type": "llama", "tie_word_embeddings": False}
    write_directory(Path("Logics-Parsing"), [{"lm_head.weight": random((200, 16))}], config)
    wconv.save({"a": random((3, 3))}, "model.safetensors")
    Path("model.safetensors").rename("model.ckpt")
    lines = [line for line in code[1].splitlines() if "depth_pro" not in line]
    exec("\n".join(lines), {})
    assert set(wconv.open("part.safetensors")) == {"q", "k"}
    assert list(wconv.open("out")) == ["lm_head.weight"]


if __name__ == "__main__":
    README.write_text(TABLE.sub(lambda found: found[1] + supported() + found[3], README.read_text()))
