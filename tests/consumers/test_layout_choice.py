"""Of two programs' tables the one is chosen that the checkpoint is for."""

from __future__ import annotations

from wconv.consumers.layout_choice import choose_layout


def test_of_two_programs_tables_the_one_counts_that_runs_the_model_or_has_its_names_already() -> None:
    names = ["model.final_layernorm.weight", "model.layers.0.mamba.conv1d.weight"]
    for spelled, consumer in (names, "mlx-lm"), ([f"language_model.{name}" for name in names], "mlx-vlm"):
        layout = choose_layout("auto", {"model_type": "falcon_h1"}, spelled)
        assert layout is not None
        assert layout.consumers == (consumer,)
        for asked in ("mlx-lm", "mlx-vlm"):
            layout = choose_layout(asked, {"model_type": "falcon_h1"}, spelled)
            assert layout is not None
            assert layout.consumers == (asked,)
