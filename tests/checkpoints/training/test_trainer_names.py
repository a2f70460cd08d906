"""What trainers put before names is found, taken off and told; a model's own names stay."""

from __future__ import annotations

import numpy as np
import pytest

from wconv.checkpoints.training import trainer_names
from wconv.formats.contents import Contents
from wconv.tensors.lazy import from_array


def stripped(*names: str) -> tuple[list[str], str]:
    tensors = {name: from_array(np.zeros(1)) for name in names}
    found = trainer_names.stripped(Contents("x", tensors), whole=True)  # type: ignore[arg-type]
    return list(found.tensors), "; ".join(found.notes)


@pytest.mark.parametrize(
    ("names", "short", "note"),
    [
        (
            ("model.model.layers.0.a", "model.lm_head.weight"),
            ["model.layers.0.a", "lm_head.weight"],
            "model.",
        ),
        (
            ("actor.model.layers.0.a", "actor.lm_head.weight"),
            ["model.layers.0.a", "lm_head.weight"],
            "actor.",
        ),
        (("policy.module.model.a", "policy.module.lm_head.b"), ["model.a", "lm_head.b"], "policy., module."),
        (("model._orig_mod.model.a", "model._orig_mod.lm_head.b"), None, ""),
        (("model.embed_tokens.weight", "model.norm.weight"), None, ""),
        (("model.encoder.a", "model.decoder.b"), None, ""),
        (("encoder.a", "model.b"), None, ""),
    ],
)
def test_prefixes(names: tuple[str, ...], short: list[str] | None, note: str) -> None:
    assert stripped(*names) == (short or list(names), f"took {note} off the names" if short else "")


def test_models_that_only_help_are_left_out() -> None:
    names, note = stripped("actor.model.a", "actor.lm_head.b", "critic.model.a", "critic.v_head.b")
    assert names == ["model.a", "lm_head.b"]
    assert note == "took actor. off the names; left out critic; --key picks another"


def test_a_key_is_a_prefix_of_flat_names() -> None:
    root = {"actor.a": 1, "critic.a": 2}
    assert trainer_names.by_prefix(root, "critic") == ({"a": 2}, None, ("took critic",))
    assert trainer_names.by_prefix(root, "nothing") == (root, "nothing", ())
    assert trainer_names.by_prefix({"critic": {"a": 1}}, "critic") == ({"critic": {"a": 1}}, "critic", ())
