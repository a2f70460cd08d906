"""The digest of the program: a run is not continued by another version of any part of wconv."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from wconv.conversion import fingerprint


@pytest.mark.parametrize("name", ["api.py", "layouts/rules.py", "consumers/mlx_lm/model_types.json"])
def test_every_file_of_code_and_rules_is_part_of_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Path(wconv.__file__).parent / name).exists()
    monkeypatch.setattr(wconv, "__file__", str(tmp_path / "__init__.py"))
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    digests = set()
    for text in ("one", "another"):
        path.write_text(text)
        digests.add(fingerprint.program.__wrapped__())
    assert len(digests) == 2


def test_it_is_of_the_whole_package() -> None:
    home = Path(wconv.__file__).parent
    rooms = {path.parent.name for path in home.rglob("*") if path.suffix in fingerprint.CODE}
    assert {"stores", "tensors", "layouts", "consumers", "conversion"} <= rooms
