"""Tables as files: each stands for its own model type, and one alone is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wconv.consumers import layout_choice, registry, table_files
from wconv.errors import LayoutError
from wconv.layouts.file import rules_file

CONSUMERS = [one for one in registry.CONSUMERS if one.table_folder]
FOLDER = Path(table_files.__file__).parent
FILES = [
    (one, path) for one in CONSUMERS for path in sorted((FOLDER / one.table_folder / "tables").iterdir())
]


def test_every_file_reads_and_prints_and_stands_for_its_own_model_type() -> None:
    assert len(FILES) > 300
    for consumer, path in FILES:
        assert path.suffix == ".toml"
        layout = table_files.find(consumer.table_folder, path.stem)
        assert layout is not None
        assert layout.consumers[0] == consumer.name
        assert layout.model_types == (path.stem,)
        assert rules_file.parse(rules_file.write(layout)) == layout
        assert layout.derived_from.keys() <= {consumer.name, "transformers"}


def test_a_file_that_is_the_same_as_another_is_that_for_its_own_model_type() -> None:
    same = [
        (consumer.table_folder, path.stem, found[1])
        for consumer, path in FILES
        if (found := table_files.SAME_AS.fullmatch(path.read_text().strip()))
    ]
    assert len(same) > 40
    for folder, model_type, said in same:
        one, other = table_files.find(folder, model_type), table_files.find(folder, said)
        assert one is not None
        assert other is not None
        assert replace(one, model_types=()) == replace(other, model_types=())


def test_tables_of_checkpoints_without_a_config_are_all_known() -> None:
    for consumer in CONSUMERS:
        recognised = [one.model_type for one in registry.tables(consumer.name) if one.recognised_by]
        assert sorted(recognised) == sorted(consumer.recognisable)


@pytest.mark.parametrize("model_type", ["../llama", "", ".", "a/b", "none of these", "llama\n"])
def test_no_model_type_leads_out_of_the_folder(model_type: str) -> None:
    assert table_files.find("mlx_lm", model_type) is None


@pytest.mark.parametrize(("model_type", "read"), [("llama", ["llama"]), ("mistral", ["mistral", "llama"])])
def test_one_file_is_read(model_type: str, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    text = table_files._text

    def noted(folder: str, name: str) -> str | None:
        found = text(folder, name)
        if found is not None:
            seen.append(name)
        return found

    monkeypatch.setattr(table_files, "_text", noted)
    table_files.find.cache_clear()
    assert layout_choice.choose_layout("auto", {"model_type": model_type}, []) is not None
    assert list(dict.fromkeys(seen)) == read


def test_a_file_that_names_no_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table_files.find.cache_clear()
    monkeypatch.setattr(table_files, "_text", lambda _, name: 'same_as = "gone"\n' if name == "odd" else None)
    with pytest.raises(LayoutError, match=r"mlx_lm/odd\.toml: there is no table of gone"):
        table_files.find("mlx_lm", "odd")
    table_files.find.cache_clear()
