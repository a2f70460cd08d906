"""A file that holds a whole module is laid out for MLX by the class of each layer, with no table.

Covers `layouts/computed/recurrent.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import bits
from wconv.checkpoints import open as opening
from wconv.consumers.mlx_nn import by_layer
from wconv.conversion.report import Report
from wconv.errors import LayoutError
from wconv.examine import inspect
from wconv.formats.modules import Module
from wconv.tensors.lazy import LazyTensor, from_array

FIXTURES = Path(__file__).parents[3] / "fixtures" / "modules"
FORMS = ("pickled", "data_parallel", "scripted", "traced")


def converted(form: str, tmp_path: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any], Report]:
    """The source's arrays, the result's, and the report."""
    out = tmp_path / "out.safetensors"
    report = wconv.convert(FIXTURES / f"{form}.pt", out, **options)
    return wconv.load(FIXTURES / f"{form}.pt"), wconv.load(out), report


def expected(net: dict[str, Any]) -> dict[str, Any]:
    """What mlx.nn calls the tensors of fixtures/modules/make.py's module, and how it lays them out."""
    query, key, value = np.split(net["attention.in_proj_weight"], 3)
    query_bias, key_bias, value_bias = np.split(net["attention.in_proj_bias"], 3)
    first, second = np.split(net["features.up.weight"], 2)  # (in, out / groups, height, width) of each group
    after = {
        "scale": net["scale"],
        "features.layers.0.weight": net["features.conv.weight"].transpose(0, 2, 3, 1),
        "features.layers.0.bias": net["features.conv.bias"],
        "features.layers.3.weight": np.concatenate(
            [first.transpose(1, 2, 3, 0), second.transpose(1, 2, 3, 0)]
        ),
        "attention.query_proj.weight": query,
        "attention.key_proj.weight": key,
        "attention.value_proj.weight": value,
        "attention.query_proj.bias": query_bias,
        "attention.key_proj.bias": key_bias,
        "attention.value_proj.bias": value_bias,
        "gru.Wx": net["gru.weight_ih_l0"],
        "gru.Wh": net["gru.weight_hh_l0"],
        "gru.b": net["gru.bias_ih_l0"] + net["gru.bias_hh_l0"] * np.float32([1, 1, 1, 1, 0, 0]),
        "gru.bhn": net["gru.bias_hh_l0"][4:],
    }
    for name in ("weight", "bias", "running_mean", "running_var"):
        after[f"features.layers.1.{name}"] = net[f"features.norm.{name}"]
    for name in ("attention.out_proj.weight", "attention.out_proj.bias"):
        after[name] = net[name]
    for name in ("heads.0.weight", "heads.0.bias", "heads.1.weight"):
        after[name] = net[name]
    for layer in (0, 1):
        for target, suffix in (("layers", ""), ("reverse_layers", "_reverse")):
            kept = {part: net[f"lstm.{part}_l{layer}{suffix}"] for part in _LSTM}
            after[f"lstm.{target}.{layer}.Wx"] = kept["weight_ih"]
            after[f"lstm.{target}.{layer}.Wh"] = kept["weight_hh"]
            after[f"lstm.{target}.{layer}.bias"] = kept["bias_ih"] + kept["bias_hh"]
    return after


_LSTM = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_is_where_mlx_looks_for_it(form: str, tmp_path: Path) -> None:
    net, result, report = converted(form, tmp_path, exclude=r"^CONSTANTS\.")
    after = expected(net)
    assert result.keys() == after.keys()
    for name, array in after.items():
        assert bits(result[name]) == bits(array), name
    assert report.layout == "mlx.nn"
    assert "features.norm.num_batches_tracked" in report.dropped
    assert list(report.unchanged) == ["scale"]


def test_the_summary_counts_what_was_recognised_and_names_what_was_not(tmp_path: Path) -> None:
    *_, report = converted("pickled", tmp_path)
    lines = "\n".join(report.lines())
    assert "layers recognised: Conv2d 1, BatchNorm2d 1 → BatchNorm" in lines
    assert "Linear 2" in lines
    assert "layers not recognised: __main__.Net 1" in lines
    assert "unchanged (of __main__.Net, which mlx.nn has not): scale" in lines
    assert report.to_dict()["unchanged"]["scale"]


def test_inspect_tells_the_classes() -> None:
    opened = opening.open(FIXTURES / "traced.pt")
    assert "torch.nn.modules.conv.ConvTranspose2d 1" in "\n".join(inspect.lines(opened))
    assert inspect.to_dict(opened)["modules"]["features.up"] == "torch.nn.modules.conv.ConvTranspose2d"


def test_a_layout_asked_for_by_name_is_not_overruled(tmp_path: Path) -> None:
    net, result, report = converted("pickled", tmp_path, layout="hf")
    assert report.layout is None
    assert result.keys() == net.keys()


def test_half_a_recurrent_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="gru lacks bias_hh"):
        converted("pickled", tmp_path, exclude=r"gru\.bias_hh")
    assert not list(tmp_path.iterdir())


def laid_out(class_name: str, shapes: dict[str, tuple[int, ...]], **settings: Any) -> Any:
    """The layout of one module `layer` with such tensors."""
    tensors: dict[str, LazyTensor] = {
        f"layer.{name}": from_array(np.zeros(shape, np.float32)) for name, shape in shapes.items()
    }
    return by_layer.apply(tensors, {"": Module("app.Net"), "layer": Module(class_name, settings)})


TORCH = "torch.nn.modules"


@pytest.mark.parametrize(
    ("class_name", "shapes", "why"),
    [
        ("app.Own", {"table": (3, 4)}, "of app.Own, which mlx.nn has not"),
        (f"{TORCH}.normalization.LayerNorm", {"weight": (3, 4)}, "with 2 axes, not 1"),
        (f"{TORCH}.rnn.LSTM", {"weight_hr_l0": (2, 3), "weight_ih_l0": (8, 3)}, "with proj_size"),
        (f"{TORCH}.conv.ConvTranspose1d", {"weight": (4, 3, 2)}, "whose groups the file does not tell"),
        (f"{TORCH}.activation.MultiheadAttention", {"bias_k": (1, 1, 4)}, "has no such parameter"),
        (f"{TORCH}.instancenorm.InstanceNorm1d", {"running_mean": (4,)}, "has no such parameter"),
    ],
)
def test_what_mlx_has_not_passes_unchanged_and_is_named(
    class_name: str, shapes: dict[str, tuple[int, ...]], why: str
) -> None:
    applied = laid_out(class_name, shapes)
    assert applied.unchanged.keys() == applied.tensors.keys() == {f"layer.{name}" for name in shapes}
    assert all(why in reason for reason in applied.unchanged.values())
    assert [tensor.shape for tensor in applied.tensors.values()] == list(shapes.values())


@pytest.mark.parametrize(
    ("class_name", "shapes", "settings", "error"),
    [
        (f"{TORCH}.activation.MultiheadAttention", {"in_proj_weight": (4, 4)}, {}, "no 3 parts"),
        (f"{TORCH}.conv.ConvTranspose1d", {"weight": (4, 3, 2)}, {"groups": 3}, "no 3 groups"),
        (f"{TORCH}.rnn.GRU", {"weight_ih_l0": (6, 2)}, {}, "lacks bias_hh, bias_ih, weight_hh"),
        (
            f"{TORCH}.rnn.GRU",
            {"weight_ih_l0": (6, 2), "weight_hh_l0": (6, 2), "bias_ih_l0": (7,), "bias_hh_l0": (7,)},
            {},
            "no three gates",
        ),
        (
            f"{TORCH}.rnn.LSTM",
            {"weight_ih_l0": (8, 2), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,), "bias_hh_l0": (4,)},
            {},
            "cannot be added",
        ),
    ],
)
def test_tensors_that_no_such_layer_has_are_refused(
    class_name: str, shapes: dict[str, tuple[int, ...]], settings: dict[str, Any], error: str
) -> None:
    with pytest.raises(LayoutError, match=error):
        laid_out(class_name, shapes, **settings)


def test_two_tensors_for_one_name_are_refused() -> None:
    tensors: dict[str, LazyTensor] = {
        name: from_array(np.zeros((2, 2), np.float32)) for name in ("net.a.weight", "net.layers.0.weight")
    }
    held = {"net": Module(f"{TORCH}.container.Sequential"), "net.a": Module(f"{TORCH}.linear.Linear")}
    with pytest.raises(LayoutError, match=r"would both become net\.layers\.0\.weight"):
        by_layer.apply(tensors, held)


def test_padding_that_mlx_has_not_is_told() -> None:
    applied = laid_out(f"{TORCH}.conv.Conv1d", {"weight": (4, 3, 2)}, padding_mode="reflect")
    assert applied.tensors["layer.weight"].shape == (4, 2, 3)
    assert "layer pads with 'reflect', not with zeros as mlx.nn.Conv1d" in applied.notes


def test_lists_of_parameters_keep_their_names() -> None:
    applied = laid_out(f"{TORCH}.container.ParameterList", {"0": (4,), "1": (4,)})
    assert list(applied.tensors) == ["layer.0", "layer.1"]
    assert not applied.unchanged
