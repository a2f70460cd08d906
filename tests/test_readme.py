"""What the README and the pages show is true: the table comes from the tables, the examples run.

`python -m tests.test_readme` writes the table anew.

Covers `cli/pages.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import wconv
from tests.making import random, write_directory
from wconv.cli.pages import topics
from wconv.cli.program import main
from wconv.consumers import layout_choice

README = Path(__file__).parent.parent / "README.md"
PAGES = Path(wconv.__file__).parent / "docs"
MODELS = PAGES / "models.md"
TABLE = re.compile(r"(<!-- supported: .*? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def supported() -> str:
    """The table of the models that have rules."""
    rows: dict[tuple[str, str], list[str]] = {}
    for consumer, model_type, verbs in layout_choice.describe():
        rows.setdefault((consumer, verbs), []).append(f"`{model_type}`")
    lines = ["| consumer | model_type | what the rules do |", "|---|---|---|"]
    lines += [f"| {consumer} | {', '.join(types)} | {verbs} |" for (consumer, verbs), types in rows.items()]
    return "\n".join(lines) + "\n"


def test_the_table_of_models_is_the_tables() -> None:
    found = TABLE.search(MODELS.read_text())
    assert found is not None
    assert found[2] == supported(), "run python -m tests.test_readme"


@pytest.mark.parametrize("path", [README, PAGES / "library.md"], ids=lambda path: path.name)
def test_the_example_of_the_library_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    config = {"model_type": "llama", "tie_word_embeddings": False}
    write_directory(Path("Logics-Parsing"), [{"lm_head.weight": random((200, 16))}], config)
    wconv.save({"a": random((3, 3))}, "model.safetensors")
    Path("model.safetensors").rename("model.ckpt")
    lines = [line for line in code[1].splitlines() if "depth_pro" not in line]
    exec("\n".join(lines), {})
    assert list(wconv.open("out")) == ["lm_head.weight"]


def test_every_page_is_named_in_the_readme_and_shown() -> None:
    text = README.read_text()
    site = (README.parent / ".ci" / "mkdocs.yml").read_text()
    for topic, title in topics().items():
        assert f"`{topic}`" in text
        assert f"- {topic}.md\n" in site
        shown = CliRunner().invoke(main, ["docs", topic])
        assert shown.exit_code == 0
        assert title.upper() in shown.stdout
        assert "\x1b" not in shown.stdout
    assert CliRunner().invoke(main, ["docs"]).stdout.count("\n") == len(topics())
    assert "one of adapters" in CliRunner().invoke(main, ["docs", "../cli"]).stderr


if __name__ == "__main__":
    MODELS.write_text(TABLE.sub(lambda found: found[1] + supported() + found[3], MODELS.read_text()))
