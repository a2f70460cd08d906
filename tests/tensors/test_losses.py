"""No cast loses a value without a word, wherever it stands in a lazy graph; what is reported is exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.making import random, write_directory, write_file
from wconv.conversion.report import overflow_line
from wconv.errors import WconvError
from wconv.tensors import dtypes, nodes, operations
from wconv.tensors.casts import Overflow, holding
from wconv.tensors.lazy import LazyTensor, from_array
from wconv.writing import chunks
from wconv.writing.buffers import Buffers, add_overflows
from wconv.writing.plan import Entry, safetensors_shard

Array = np.ndarray[Any, Any]
Random = np.random.Generator

FLOATS = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclass
class Case:
    """A lazy tensor, and what numpy says that its casts lost: a magnitude for each element."""

    lazy: LazyTensor
    values: Array
    lost: Array


def leaf(rng: Random, shape: tuple[int, ...] | None = None, dtype: str | None = None) -> Case:
    shape = shape or tuple(int(length) for length in rng.integers(1, 6, rng.integers(1, 4)))
    dtype = dtype or str(rng.choice(FLOATS[:4]))
    with np.errstate(all="ignore"):
        wide = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 6, shape)
        wide = np.where(rng.random(shape) < 0.02, rng.choice([np.inf, -np.inf, np.nan, 1e30]), wide)
        values = wide.astype(dtypes.by_name(dtype).numpy)
    return Case(from_array(values), values, np.zeros(shape))


def cast(rng: Random, case: Case) -> Case:
    name = str(rng.choice(FLOATS))
    to = dtypes.by_name(name).numpy
    with np.errstate(all="ignore"):
        middle = case.values.astype(np.float32) if to.itemsize == 1 else case.values
        if name == "float8_e4m3fn":
            values = np.clip(middle, np.asarray(-448, middle.dtype), np.asarray(448, middle.dtype)).astype(to)
            gone = np.isfinite(wide(case.values)) & (np.abs(middle.astype(np.float64)) > 464)
        else:
            values = middle.astype(to)
            gone = np.isfinite(wide(case.values)) & ~np.isfinite(wide(values))
        if case.values.dtype == to:
            gone[...] = False
    return Case(
        case.lazy.cast(name), values, np.maximum(case.lost, np.where(gone, abs(wide(case.values)), 0))
    )


def wide(values: Array) -> Array:
    with np.errstate(all="ignore"):
        return values.astype(np.float64)


def reshape(rng: Random, case: Case) -> Case:
    shape = (-1,) if rng.random() < 0.5 else (1, *case.lazy.shape)
    return Case(case.lazy.reshape(shape), case.values.reshape(shape), case.lost.reshape(shape))


def transpose(rng: Random, case: Case) -> Case:
    axes = [int(axis) for axis in rng.permutation(case.lazy.ndim)]
    return Case(case.lazy.transpose(axes), case.values.transpose(axes), case.lost.transpose(axes))


def pick(rng: Random, case: Case) -> Case:
    axis = int(rng.integers(case.lazy.ndim))
    start, stop = sorted(int(at) for at in rng.integers(0, case.lazy.shape[axis] + 1, 2))
    if start == stop:
        return case
    step = int(rng.integers(1, 3))
    at = (*[slice(None)] * axis, slice(start, stop, step))
    return Case(case.lazy.slice(axis, start, stop, step), case.values[at], case.lost[at])


def join(rng: Random, case: Case) -> Case:
    axis = int(rng.integers(case.lazy.ndim))
    others = [case, leaf(rng, case.lazy.shape), cast(rng, leaf(rng, case.lazy.shape))]
    parts = [others[int(at)] for at in rng.integers(0, 3, 3)]
    name = parts[0].lazy.dtype.name
    same = [one if one.lazy.dtype.name == name else to_dtype(one, name) for one in parts]
    lazy = operations.concat([one.lazy for one in same], axis)
    return Case(
        lazy, *(np.concatenate([getattr(one, what) for one in same], axis) for what in ("values", "lost"))
    )


def to_dtype(case: Case, name: str) -> Case:
    class Fixed:
        def choice(self, _: object) -> str:
            return name

    return cast(Fixed(), case)  # type: ignore[arg-type]


def add(rng: Random, case: Case) -> Case:
    value = case.values + np.asarray(1, case.values.dtype)
    return Case(case.lazy.add(1), value.astype(case.values.dtype), case.lost)


STEPS: tuple[Callable[[Random, Case], Case], ...] = (cast, cast, reshape, transpose, pick, pick, join, add)


def reported(lazy: LazyTensor, target: str) -> tuple[bytes, Overflow]:
    """What the units of a file that holds the tensor give."""
    shard = safetensors_shard("x", [Entry("t", lazy, dtypes.by_name(target))], {})
    buffers = Buffers()
    data, total = b"", {}
    for unit in chunks.work_units(shard):
        (result,), lost = buffers.compute(unit)
        data += result.tobytes()
        add_overflows(total, lost)
    return data, total.get("t", Overflow())


@pytest.mark.parametrize("seed", range(400))
@np.errstate(all="ignore")
def test_random_graphs_report_what_numpy_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(chunks, "CHUNK", int(rng.choice([16, 64, 2 << 20])))
    monkeypatch.setattr(nodes, "WHOLE_LIMIT", int(rng.choice([64, 32 << 20])))
    monkeypatch.setattr(nodes, "SEGMENT", int(rng.choice([8, 64 << 10])))
    case = leaf(rng)
    for _ in range(int(rng.integers(1, 9))):
        case = STEPS[int(rng.integers(len(STEPS)))](rng, case)
    target = str(rng.choice(["float32", "float16", case.lazy.dtype.name]))
    data, lost = reported(case.lazy, target)
    written = to_dtype(case, target)
    unsigned = f"u{written.values.itemsize}"
    got = np.frombuffer(data, written.values.dtype).reshape(written.values.shape)
    same = got.view(unsigned) == np.ascontiguousarray(written.values).view(unsigned)
    assert (same | np.isnan(wide(got)) & np.isnan(wide(written.values))).all()
    assert lost.count == np.count_nonzero(written.lost)
    assert lost.largest == pytest.approx(written.lost.max(initial=0), rel=1e-6)  # float8 is made of float32


def test_components_of_complex_values_count() -> None:
    values = np.array([1e300 + 1j, 1 + 1j, 1e300 - 1e301j])
    lazy = from_array(values).cast("complex64").reshape((3, 1)).transpose((1, 0))
    _, lost = reported(lazy, "complex64")
    assert lost == Overflow(3, 1e301)


def test_small_tensors_that_are_written_together_are_told_apart() -> None:
    def stacked(*values: float) -> LazyTensor:
        return operations.stack(
            [from_array(np.array([value, 1.0], np.float32)).cast("float16") for value in values]
        )

    tensors = {"a": stacked(1.0, 2.0), "b": stacked(1e6, 1.0), "c": from_array(np.array([-1e7], np.float32))}
    entries = [Entry(name, tensor, dtypes.by_name("float16")) for name, tensor in tensors.items()]
    found: dict[str, Overflow] = {}
    for unit in chunks.work_units(safetensors_shard("x", entries, {})):
        add_overflows(found, Buffers().compute(unit)[1])
    assert found == {"b": Overflow(1, 1e6), "c": Overflow(1, 1e7)}


def test_operations_of_which_nothing_is_known_are_reported_too() -> None:
    """Every cast is tallied; what is infinite afterwards was lost."""

    @dataclass(frozen=True, slots=True, eq=False, repr=False)
    class Doubled(nodes.UnaryNode):
        def read_into(self, start: int, stop: int, out: Array) -> None:
            out[:] = self.parent.read_range(start, stop) * out.dtype.type(2)

    base = from_array(np.array([1.0, 1e6, 2.0, 1e9], np.float32)).cast("float16")
    lazy = operations.concat([from_array(np.ones(3, np.float16)), Doubled(base).slice(0, 0, 3)])
    assert reported(lazy, "float16")[1] == Overflow(1, 1e9)
    saturated = Doubled(from_array(np.array([1.0, 1e6], np.float32)).cast("float8_e4m3fn"))
    assert reported(saturated, "float8_e4m3fn")[1].count == 1


def test_what_is_sliced_away_is_not_reported() -> None:
    lazy = from_array(np.array([[1.0, 1e9], [2.0, 3.0]])).cast("float16").slice(1, 0, 1)
    assert reported(lazy, "float16")[1] == Overflow()


def moe(tmp_path: Path, big: float, dtype: Any = ml_dtypes.bfloat16) -> Path:
    """A qwen2_moe of one layer and two experts, of which the first holds `big`."""
    config = {
        "model_type": "qwen2_moe",
        "num_hidden_layers": 1,
        "num_experts": 2,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    tensors = {"model.embed_tokens.weight": random((8, 4), dtype), "lm_head.weight": random((8, 4), dtype)}
    for expert in range(2):
        for part, shape in (("gate", (6, 4)), ("up", (6, 4)), ("down", (4, 6))):
            name = f"model.layers.0.mlp.experts.{expert}.{part}_proj.weight"
            tensors[name] = random(shape, dtype, seed=expert)
    tensors["model.layers.0.mlp.experts.0.gate_proj.weight"][0, 0] = big
    return write_directory(tmp_path / "model", [tensors], config)


def lora(tmp_path: Path, module: str, rows: int, columns: int, bad: float | None = None) -> Path:
    up, down = random((rows, 2), np.float32), random((2, columns), np.float32, seed=1)
    if bad is not None:
        up[1, 1] = bad
    return write_file(
        tmp_path / "lora.safetensors", {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    )


OTHER = "model.layers.0.mlp.experts.1.gate_proj"
STACKED = "model.layers.0.mlp.switch_mlp.gate_proj.weight"


def test_an_expert_that_overflows_beside_one_with_an_adapter_is_reported(tmp_path: Path) -> None:
    model, adapter = moe(tmp_path, 1e30), lora(tmp_path, OTHER, 6, 4)
    arguments = {"layout": "mlx-lm", "dtype": "float16", "merge_lora": [str(adapter)]}
    report = wconv.convert(model, tmp_path / "out", **arguments)
    assert report.overflows[STACKED].count == 1
    assert report.overflows[STACKED].largest == pytest.approx(1e30, rel=0.01)
    assert np.isinf(wconv.load(tmp_path / "out")[STACKED]).sum() == 1
    with pytest.raises(WconvError, match=rf"1 value became infinite .* in {STACKED}.*use --dtype bfloat16"):
        wconv.convert(model, tmp_path / "strict", strict=True, **arguments)
    assert not (tmp_path / "strict").exists()
    assert not wconv.convert(
        model, tmp_path / "bf", strict=True, **{**arguments, "dtype": "bfloat16"}
    ).overflows


def test_shards_of_an_executor_and_torch_files_tell_it_too(tmp_path: Path) -> None:
    model, adapter = moe(tmp_path, 1e30), lora(tmp_path, OTHER, 6, 4)
    arguments: dict[str, Any] = {"layout": "mlx-lm", "dtype": "float16", "merge_lora": [str(adapter)]}
    with ThreadPoolExecutor(2) as executor:
        report = wconv.convert(model, tmp_path / "out", executor=executor, max_shard_size=200, **arguments)
    assert len(report.shards) > 1
    assert report.overflows[STACKED].count == 1
    report = wconv.convert(model, tmp_path / "out.pt", **arguments)
    assert report.overflows[STACKED].count == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_adapter_that_is_not_finite_is_refused_by_name(bad: float, tmp_path: Path) -> None:
    model, adapter = moe(tmp_path, 1.0), lora(tmp_path, OTHER, 6, 4, bad)
    said = rf"{OTHER}.weight: .*lora\.safetensors: {OTHER} holds 1 values? that (is|are) NaN or infinite"
    with pytest.raises(WconvError, match=said):
        wconv.convert(model, tmp_path / "out", layout="mlx-lm", merge_lora=[str(adapter)])
    assert not (tmp_path / "out").exists()


def test_infinities_of_the_model_itself_are_kept_when_an_adapter_is_merged(tmp_path: Path) -> None:
    model, adapter = moe(tmp_path, np.inf), lora(tmp_path, OTHER.replace("1.gate", "0.gate"), 6, 4)
    report = wconv.convert(model, tmp_path / "out", layout="mlx-lm", merge_lora=[str(adapter)], strict=True)
    assert not report.overflows
    assert np.isinf(wconv.load(tmp_path / "out")[STACKED].astype(np.float32)).sum() == 1


def test_a_product_beyond_float32_is_told_as_such(tmp_path: Path) -> None:
    model, adapter = moe(tmp_path, 1.0), lora(tmp_path, OTHER, 6, 4)
    with pytest.raises(WconvError, match="overflows float32: choose a smaller scale"):
        wconv.convert(
            model, tmp_path / "out", layout="mlx-lm", merge_lora=[f"{adapter}:1e38", f"{adapter}:1e39"]
        )


def test_scales_that_make_weights_infinite_are_refused(tmp_path: Path) -> None:
    from wconv.layouts.computed.scaled import dequantized

    weight = from_array(np.array([[448.0, 1.0]], ml_dtypes.float8_e4m3fn))
    lazy = dequantized(weight, from_array(np.array(3e38, np.float32)))
    with pytest.raises(WconvError, match=r"t: its scales .* make it infinite in bfloat16"):
        reported(lazy, "bfloat16")


def test_a_sum_that_overflows_is_refused_by_name() -> None:
    big = from_array(np.array([60000.0, 1.0], np.float16))
    with pytest.raises(WconvError, match="t: the sum of the two tensors it is made of overflows float16"):
        reported(operations.add_tensors(big, big), "float16")
    with pytest.raises(WconvError, match="t: adding 60000 to it overflows float16"):
        reported(big.add(60000), "float16")
    infinite = from_array(np.array([np.inf, 1.0], np.float16))
    assert reported(operations.add_tensors(infinite, infinite), "float16")[1] == Overflow()


@pytest.mark.parametrize(
    ("largest", "advice"),
    [(7e4, "use --dtype bfloat16"), (3.4e38, "use --dtype float32"), (1e300, "no dtype of MLX holds")],
)
def test_the_dtype_that_is_advised_holds_the_value(largest: float, advice: str) -> None:
    assert advice in overflow_line({"a": Overflow(1, largest)})


def test_the_advised_dtype_agrees_with_the_cast() -> None:
    for name, limit in (
        ("bfloat16", np.float64(2.0**127 * (2 - 2.0**-8))),
        ("float32", 2.0**127 * (2 - 2.0**-24)),
    ):
        for value in (np.nextafter(limit, 0), limit):
            lost = reported(from_array(np.array([value])).cast(name), name)[1].count
            assert (holding(float(value)) == name) is (lost == 0), (name, value)


def test_load_mlx_and_save_warn_of_what_is_lost(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    path = write_file(tmp_path / "a.safetensors", {"big": np.array([1e30, 1.0], np.float32)})
    with pytest.warns(RuntimeWarning, match=r"1 value became infinite \(largest 1e\+30 in big\)"):
        wconv.load_mlx(path, dtype="float16")
    with pytest.warns(RuntimeWarning, match=r"1 value became infinite \(largest 1e\+30 in x\)"):
        wconv.save({"x": wconv.open(path)["big"].cast("float16")}, tmp_path / "b.safetensors")


def test_the_command_says_it_too(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from wconv.cli.program import main

    model, adapter = moe(tmp_path, 1e30), lora(tmp_path, OTHER, 6, 4)
    words = [str(model), "-o", str(tmp_path / "out"), "--layout", "mlx-lm", "--dtype", "float16"]
    result = CliRunner().invoke(main, [*words, "--merge-lora", str(adapter), "--json"])
    assert result.exit_code == 0, result.output
    assert STACKED in json.loads(result.output)["overflows"]
    strict = CliRunner().invoke(main, [*words, "--merge-lora", str(adapter), "--strict", "--overwrite"])
    assert strict.exit_code == 1
