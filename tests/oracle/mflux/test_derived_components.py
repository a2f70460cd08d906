"""Every component of mflux's models: its table against mflux's own loader, on all names that this reads.

Covers `consumers/mflux/families.py`.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.derive import fixtures, mflux, mflux_parts, mflux_proof
from tests.derive.mflux_rows import SHARED, WITHOUT
from tests.oracles import oracle
from wconv.consumers import pipelines, table_files

pytestmark = pytest.mark.oracle

ROWS = fixtures.load("mflux")
COMPONENTS = [name for name in ROWS if name not in WITHOUT]


@functools.cache
def parts() -> dict[str, Any]:
    oracle("mflux")
    return {part.name: part for part in mflux_parts.every_part()}


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_laid_out_as_mflux_loads_it(name: str) -> None:
    layout = table_files.component("mflux", SHARED.get(name, name))
    kept = {key: ROWS[name][key] for key in ("own", "float16", "back")}
    assert mflux_proof.compare(parts()[name], layout) == kept
    assert kept["own"] == kept["float16"] == "same"


def test_every_component_has_a_row_and_a_place() -> None:
    assert set(COMPONENTS) == set(parts())
    placed = [layout for _, layout in pipelines.places("mflux")]
    for name in COMPONENTS:
        layout = table_files.component("mflux", SHARED.get(name, name))
        assert layout in placed or name == "depth_pro.depth_pro", name


@pytest.mark.parametrize("name", ["ming_image.text_encoder", "krea2.transformer", "qwen21.vae"])
def test_a_table_is_still_what_is_derived(name: str) -> None:
    found = mflux.derive(parts()[name])
    assert found.layout == table_files.component("mflux", name)
