"""A tensor that cannot be had is an error that names it, unless the caller goes on without it."""

from __future__ import annotations

import json
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import wconv
from tests.hostile import assemble as pk
from tests.hostile import containers
from tests.making import bits, write_file
from wconv.cli.program import main
from wconv.errors import FormatError

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "reading"
VALUES = np.frombuffer(containers.WEIGHTS, "<f4")
PLAIN = {"plain": np.array([0, 0.5], np.float32)}
SQUARE = np.arange(6, dtype=np.float32).reshape(2, 3) * np.float32(0.5)

META = pk.call(
    "torch._utils", "_rebuild_meta_tensor_no_storage", pk.by_global("torch", "half"), (2,), (1,), False
)
UNKNOWN = pk.call("torchao.dtypes", "make_tensor", pk.tensor())
WRAPPED = pk.call(
    "torch._tensor",
    "_rebuild_from_type_v2",
    pk.by_global("torch._utils", "_rebuild_wrapper_subclass"),
    pk.by_global("torchao.float8", "Float8Tensor"),
    (pk.by_global("torchao.float8", "Float8Tensor"), pk.by_global("torch", "float32"), (4,), (1,)),
    {"_data": pk.tensor()},
)
LOST = {
    "meta": (META, "meta device"),
    "unknown object": (UNKNOWN, "torchao.dtypes.make_tensor"),
    "tensor class": (WRAPPED, "torchao.float8.Float8Tensor"),
    "set": (pk.call("builtins", "set", [pk.tensor()]), "set"),
}


def saved(path: Path, **values: Any) -> Path:
    path.write_bytes(containers.torch_zip(pk.push(values)))
    return path


@pytest.fixture(params=LOST)
def lossy(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A file with a good tensor and one that is lost, and words of the reason."""
    code, words = LOST[request.param]
    return saved(tmp_path / "model.pt", w=pk.tensor(), gone=code), words


def test_a_lost_tensor_is_an_error_that_names_it_and_says_why(
    lossy: tuple[Path, str], tmp_path: Path
) -> None:
    path, words = lossy
    for attempt in (
        wconv.load,
        wconv.open,
        wconv.load_mlx,
        lambda path: wconv.convert(path, tmp_path / "out"),
    ):
        with pytest.raises(FormatError) as caught:
            attempt(path)
        message = str(caught.value)
        assert words in message
        assert "gone cannot be read" in message
        assert "--skip-unreadable" in message
        assert len(message) < 300 + len(str(path))
    assert not (tmp_path / "out").exists()


def test_whoever_asks_goes_on_without_it_and_is_told(lossy: tuple[Path, str], tmp_path: Path) -> None:
    path, words = lossy
    assert list(wconv.load(path, skip_unreadable=True)) == ["w"]
    assert words in wconv.open(path, skip_unreadable=True).skipped["gone"]
    assert list(wconv.load_mlx(path, skip_unreadable=True)) == ["w"]
    report = wconv.convert(path, tmp_path / "out.safetensors", skip_unreadable=True)
    assert words in report.skipped["gone"]
    assert list(wconv.open(tmp_path / "out.safetensors")) == ["w"]


def test_the_command_fails_shows_and_skips(lossy: tuple[Path, str], tmp_path: Path) -> None:
    path, words = lossy
    output = tmp_path / "out"
    failed = CliRunner().invoke(main, [str(path), "-o", str(output)])
    assert failed.exit_code == 1
    assert words in failed.output
    assert "load it" not in failed.output
    assert not output.exists()
    assert words in CliRunner().invoke(main, ["inspect", str(path)]).output
    done = CliRunner().invoke(main, [str(path), "-o", str(output), "--skip-unreadable"])
    assert done.exit_code == 0
    assert "gone" in done.output
    assert words in done.output


def test_a_tensor_that_is_filtered_out_is_not_missed(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", w=pk.tensor(), gone=META)
    report = wconv.convert(path, tmp_path / "one.safetensors", exclude="gone")
    assert report.dropped["gone"]
    assert not report.skipped
    wconv.convert(path, tmp_path / "two.safetensors", include="^w$")
    with pytest.raises(FormatError, match="gone cannot be read"):
        wconv.convert(path, tmp_path / "three.safetensors", include=".")


def test_where_nothing_else_is_there_to_go_on_without_is_no_advice(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", gone=META)
    with pytest.raises(FormatError, match="gone cannot be read") as caught:
        wconv.load(path)
    assert "--skip-unreadable" not in str(caught.value)
    with pytest.raises(FormatError, match="holds no tensors"):
        wconv.load(path, skip_unreadable=True)


@pytest.mark.parametrize(
    "value", [{}, {"w": 3}, {"w": {"x": "text"}}, [], 7, None, {"epoch": 3, "state_dict": {"w": 3}}]
)
def test_a_file_without_tensors_is_never_an_empty_dict(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(FormatError, match="no tensors"):
        wconv.load(path)


def test_nor_is_a_safetensors_file_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no tensors"):
        wconv.load(write_file(tmp_path / "model.safetensors", {}))


def test_a_tensor_spread_over_one_device_is_taken() -> None:
    found = wconv.load(FIXTURES / "dtensor_whole.bin")
    assert {name: bits(array) for name, array in found.items()} == {
        name: bits(array)
        for name, array in {**PLAIN, "sharded": SQUARE, "parameter": SQUARE, "only_summand": SQUARE}.items()
    }
    assert wconv.open(FIXTURES / "dtensor_whole.bin").ties == (("sharded", "parameter"),)


def test_of_one_spread_over_two_only_a_copy_is_taken() -> None:
    path = FIXTURES / "dtensor_parts.bin"
    with pytest.raises(FormatError, match="part cannot be read: it is a DTensor") as caught:
        wconv.load(path)
    assert "[2, 3] of [4, 3]" in str(caught.value)
    assert "full_tensor()" in str(caught.value)
    opened = wconv.open(path, skip_unreadable=True)
    assert list(opened) == ["plain", "copy"]
    assert bits(opened["copy"].numpy()) == bits(SQUARE)
    assert "summand" in opened.skipped["summand"]


NUMBERS = [
    np.float32(2.5),
    np.float64(0.1),
    np.float16(-0.0),
    np.int64(-7),
    np.uint8(255),
    np.uint64(2**64 - 1),
    np.complex64(1 + 2j),
    ml_dtypes.bfloat16(1.5),
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_a_numpy_scalar_among_tensors_is_one(number: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"w": np.ones(2), "scale": number}))
    found = wconv.load(path)["scale"]
    assert found.shape == ()
    assert found.dtype == number.dtype
    assert found.tobytes() == number.tobytes()


def test_numpy_scalars_beside_the_weights_stay_settings(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    settings = {"lr": np.float64(0.1), "width": np.int64(3)}
    path.write_bytes(pickle.dumps({"model": {"w": np.ones(2)}, "best": np.float32(0.5), "config": settings}))
    opened = wconv.open(path)
    assert list(opened) == ["w"]
    assert opened.metadata["best"] == 0.5
    assert opened.metadata["config"] == {"lr": 0.1, "width": 3}
    assert (
        json.loads(CliRunner().invoke(main, ["inspect", str(path), "--json"]).output)["metadata"]["best"]
        == 0.5
    )


def test_numpy_integers_are_the_keys_that_they_equal(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({np.int64(0): np.ones(2), 1: np.zeros(2)}))
    assert set(wconv.load(path)) == {"0", "1"}


def test_hyper_parameters_beside_a_state_dict_need_no_word(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", epoch=3, name="x", state_dict={"w": pk.tensor(), "b": None})
    opened = wconv.open(path)
    assert opened.notes == ("took state_dict",)
    assert opened.metadata["epoch"] == 3


def test_what_lies_among_the_weights_and_is_no_tensor_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", w=pk.tensor(), epoch=3, name="x", flag=True)
    (note,) = wconv.open(path).notes
    assert note == "not written, for they are no tensors: epoch (3), name ('x'), flag (True)"
    assert list(wconv.load(path)) == ["w"]
    assert note in CliRunner().invoke(main, [str(path), "-o", str(tmp_path / "out")]).output


ODD = {
    "texts": np.array(["a", "bc"]),
    "bytes": np.array([b"a", b"bc"]),
    "dates": np.array(["2024-01-01"], "M8[D]"),
    "spans": np.array([3], "m8[ns]"),
    "records": np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")]),
    "recarray": np.rec.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")]),
    "nested": np.zeros(2, [("a", "<f4", (2, 2)), ("b", [("c", "<i2")])]),
    "void": np.zeros(2, "V5"),
    "objects": np.array(["a", None, datetime(2024, 1, 1)], object),
    "long texts": np.array(["a", "bc"], np.dtypes.StringDType()),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_array_that_is_not_of_numbers_is_named_and_the_rest_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"w": np.ones(2), "odd": ODD[kind], "v": np.zeros(3)}))
    assert list(wconv.load(path)) == ["w", "v"]
    assert "not of numbers" in wconv.open(path).skipped["odd"]
    report = wconv.convert(path, tmp_path / "out.safetensors")
    assert "not of numbers" in report.skipped["odd"]


WIDE = [np.ones(2, np.longdouble), np.ones(2, np.clongdouble)]


@pytest.mark.skipif(np.longdouble(1).itemsize == 8, reason="this machine has no wider numbers")
@pytest.mark.parametrize("array", WIDE, ids=["real", "complex"])
def test_numbers_that_are_too_wide_are_lost_though(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"w": np.ones(2), "odd": array}))
    np.savez(tmp_path / "model.npz", w=np.ones(2), odd=array)
    for place in (path, tmp_path / "model.npz"):
        with pytest.raises(FormatError, match=r"odd cannot be read: .* wider"):
            wconv.load(place)
        assert list(wconv.load(place, skip_unreadable=True)) == ["w"]
    np.save(tmp_path / "model.npy", array)
    with pytest.raises(FormatError, match="wider"):
        wconv.load(tmp_path / "model.npy")
    path.write_bytes(pickle.dumps({"w": np.ones(2), "odd": array[0]}))
    assert "odd (a numpy.generic)" in wconv.open(path).notes[0]


def test_a_masked_array_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"w": np.ones(2), "odd": np.ma.masked_array([1.0], [True])}))
    with pytest.raises(FormatError, match=r"odd cannot be read: it is a numpy\.ma\."):
        wconv.load(path)


@pytest.mark.filterwarnings("ignore:Custom dtypes")
@pytest.mark.parametrize("kind", ODD)
def test_and_so_it_is_in_an_archive(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, w=np.ones(2), odd=ODD[kind])
    assert list(wconv.load(path)) == ["w"]
    assert "not of numbers" in wconv.open(path).skipped["odd"]


def test_attributes_that_no_state_dict_has_are_told(tmp_path: Path) -> None:
    opened = wconv.open(FIXTURES / "attributes.bin")
    assert list(opened) == ["w", "v"]
    assert opened.notes == ("not written, for no state dict has them: attributes of w",)


def test_tensors_in_attributes_of_a_kind_of_dict_are_lost(tmp_path: Path) -> None:
    made = pk.newobj(pk.by_global("somewhere", "Dict"))
    filled = pk.Code(pk.build(made, {"extra": pk.tensor()}) + b"(" + pk.push("w") + pk.tensor() + b"u")
    path = tmp_path / "model.pt"
    path.write_bytes(containers.torch_zip(pk.push({"state_dict": filled})))
    with pytest.raises(FormatError, match=r"attribute of a somewhere\.Dict"):
        wconv.load(path)


def test_copies_that_are_not_taken_are_told_at_every_level(tmp_path: Path) -> None:
    inner = {"model": {"w": pk.tensor()}, "net": {"w": pk.tensor()}}
    path = saved(tmp_path / "model.pt", state_dict=inner, ema={"w": pk.tensor()})
    (note,) = wconv.open(path).notes
    assert note == "took state_dict.model, not ema, state_dict.net; --key picks another"


def test_objects_that_follow_the_first_are_not_lost_in_silence() -> None:
    path = FIXTURES / "several_objects.bin"
    with pytest.raises(FormatError, match="several objects"):
        wconv.load(path)
    assert wconv.load(path, skip_unreadable=True)["w"].shape == (1,)


def test_a_weight_that_an_exported_archive_does_not_describe_is_named(tmp_path: Path) -> None:
    entry = {**containers.pt2_entry(), "tensor_meta": None}
    path = tmp_path / "model.pt2"
    path.write_bytes(containers.pt2({"config": {"w": containers.pt2_entry(), "gone": entry}}))
    with pytest.raises(FormatError, match="gone cannot be read"):
        wconv.load(path)
    assert list(wconv.load(path, skip_unreadable=True)) == ["w"]


def test_a_tensor_within_a_constant_of_a_script_is_told(tmp_path: Path) -> None:
    constants = pk.pickled((pk.tensor(), [pk.tensor(), UNKNOWN], 3))
    path = tmp_path / "model.pt"
    path.write_bytes(containers.zipped(containers.torchscript_entries(constants=constants)))
    with pytest.raises(FormatError, match=r"CONSTANTS\.c1\.1 cannot be read"):
        wconv.load(path)
    assert {"CONSTANTS.c0", "CONSTANTS.c1.0"} <= set(wconv.load(path, skip_unreadable=True))
