"""Every derived table of a component against mflux's own loader, on a tiny checkpoint of all that it reads.

Covers `consumers/mflux/derived.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.derive import mflux
from tests.oracles import oracle
from wconv.consumers import table_files
from wconv.layouts.apply import apply
from wconv.layouts.inverse import restore
from wconv.tensors.lazy import from_array

pytestmark = pytest.mark.oracle

WITHOUT_MAPPING = 15
"""Components whose names pass a filter alone."""

ELSEWHERE = {"krea2.vae", "ming_image.vae"}
"""Those whose mapping is that of Qwen-Image's autoencoder, which has a table that a person wrote."""

NOTHING_TELLS = {"qwen21.vae"}
"""Those of which mflux's form has the names and ranks of the published one: nothing tells them apart."""


def components() -> Iterator[tuple[str, str]]:
    for name in table_files.model_types("mflux"):
        model, _, component = name.partition(".")
        yield model, component


@pytest.mark.parametrize(("model", "name"), list(components()))
def test_a_component_is_laid_out_as_mflux_loads_it(model: str, name: str) -> None:
    mx = oracle("mlx.core")
    oracle("mflux")
    component = next(one for one in mflux.definition(model).get_components() if one.name == name)
    layout = table_files.find("mflux", f"{model}.{name}")
    assert layout is not None
    random = np.random.default_rng(0)
    shapes = mflux.source(model, component)
    arrays = {key: random.standard_normal(shape).astype(np.float16) for key, shape in shapes.items()}
    theirs = mflux.loaded(component, {key: mx.array(array) for key, array in arrays.items()})
    tensors = {key: from_array(array) for key, array in arrays.items()}
    ours = apply(layout, tensors, {})
    assert ours.tensors.keys() == theirs.keys()
    for key, array in theirs.items():
        assert np.array_equal(ours.tensors[key].numpy(), np.array(array)), key
    restored = restore(layout, ours.tensors, {})
    if f"{model}.{name}" in NOTHING_TELLS:
        assert restored is None
    else:
        back = ours.tensors if restored is None else restored.tensors
        assert back.keys() == tensors.keys()
        assert all(np.array_equal(back[key].numpy(), array) for key, array in arrays.items())
    if layout.casts:
        assert str(component.precision).endswith(layout.casts["float32"])


def test_every_component_is_accounted_for() -> None:
    oracle("mflux")
    tables = set(table_files.model_types("mflux"))
    without = 0
    for model in mflux.MODELS:
        for component in mflux.definition(model).get_components():
            without += component.mapping_getter is None
            mapped = component.mapping_getter is not None and f"{model}.{component.name}" not in ELSEWHERE
            assert mapped is (f"{model}.{component.name}" in tables), (model, component.name)
    assert without == WITHOUT_MAPPING
