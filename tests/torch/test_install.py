"""wconv.torch in torch's place and out again; scripts run unchanged; what is missing says what wconv is."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import wconv.torch as shim
from tests.oracles import oracle

ROOT = Path(__file__).parent.parents[1]


def torch_modules() -> dict[str, Any]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torch"}


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of torch has been imported, whatever ran before."""
    for name in (*torch_modules(), "safetensors.torch"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def in_python(code: str, *arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_within_the_block_torch_is_wconv_torch_and_afterwards_nothing_is(no_torch: None) -> None:
    with shim.installed() as given:
        import safetensors
        import torch
        import torch.nn as nn
        import torch.nn.functional
        from safetensors.torch import load_file
        from torch.nn import Parameter
        from torch.nn.parameter import Parameter as Same

        assert given is torch is shim
        assert nn.Parameter is Parameter is Same is shim.nn.Parameter
        assert load_file.__module__ == "wconv.torch.safetensors_torch"
        assert importlib.util.find_spec("torch") is shim.__spec__
        assert shim.__spec__ is not None
        assert shim.__spec__.loader is not None
    assert torch_modules() == {}
    assert "safetensors.torch" not in sys.modules
    assert not hasattr(safetensors, "torch")


def test_what_was_imported_before_comes_back(no_torch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sub, stand_in = (types.ModuleType(name) for name in ("torch", "torch.nn", "safetensors.torch"))
    import safetensors

    for module in (real, sub, stand_in):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(safetensors, "torch", stand_in, raising=False)
    finders = list(sys.meta_path)
    with shim.installed():
        assert sys.modules["torch"] is shim
        with shim.installed():
            assert sys.modules["torch"] is shim
        assert sys.modules["torch"] is shim
        assert safetensors.torch is sys.modules["safetensors.torch"] is not stand_in
    assert sys.modules["torch"] is real
    assert sys.modules["torch.nn"] is sub
    assert sys.modules["safetensors.torch"] is stand_in is safetensors.torch
    assert sys.meta_path == finders


def test_an_error_within_the_block_puts_everything_back_too(no_torch: None) -> None:
    with pytest.raises(KeyError), shim.installed():
        raise KeyError
    assert torch_modules() == {}


def test_blocks_may_overlap_in_several_threads(no_torch: None) -> None:
    first, second = shim.installed(), shim.installed()
    module = first.__enter__()
    assert second.__enter__() is module
    first.__exit__(None, None, None)
    assert sys.modules["torch"] is module
    second.__exit__(None, None, None)
    assert "torch" not in sys.modules
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: _within_a_block(), range(40)))
    assert "torch" not in sys.modules
    assert "safetensors.torch" not in sys.modules


def _within_a_block() -> None:
    with shim.installed():
        assert importlib.import_module("torch") is shim
        time.sleep(0.001)
        assert importlib.import_module("torch.nn").__name__ == "wconv.torch.nn"


def test_importing_wconv_torch_installs_nothing() -> None:
    done = in_python("import sys, wconv.torch; print([m for m in sys.modules if m.split('.')[0] == 'torch'])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.oracle
def test_real_torch_is_untouched() -> None:
    real = oracle("torch")
    add, modules = real.Tensor.__add__, torch_modules()
    with shim.installed():
        import torch

        assert torch.ones(1).__class__ is shim.Tensor
    import torch as again

    assert again is real
    assert torch_modules() == modules
    assert real.Tensor.__add__ is add
    assert (real.ones(2) + 1).tolist() == [2, 2]


def test_safetensors_own_reader_works_on_the_shim(no_torch: None, tmp_path: Path) -> None:
    from safetensors import safe_open

    state = {"a": shim.arange(6).reshape(2, 3).bfloat16(), "s": shim.tensor(2.0), "e": shim.zeros(0, 2)}
    with shim.installed():
        from safetensors.torch import save_file

        save_file(state, tmp_path / "x.safetensors")
        with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
            assert type(file).__module__ == "builtins"
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            part = file.get_slice("a")[:, 1:]
    assert {name: type(tensor) for name, tensor in found.items()} == dict.fromkeys(state, shim.Tensor)
    assert found["a"].dtype == shim.bfloat16
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["s"].item() == 2.0
    assert part.tolist() == [[1, 2], [4, 5]]


def test_safetensors_own_torch_module_works_on_the_shim(no_torch: None, tmp_path: Path) -> None:
    import safetensors

    path = tmp_path / "x.safetensors"
    with shim.installed():
        del sys.modules["safetensors.torch"], safetensors.torch
        import safetensors.torch as own

        assert own.__file__ is not None
        state = {
            "a": shim.ones(3).bfloat16(),
            "b": shim.arange(4).reshape(2, 2),
            "f": shim.ones(2).to(shim.float8_e5m2),
        }
        own.save_file(state, path)
        for found in (own.load_file(path), own.load(path.read_bytes())):
            assert {name: (t.dtype, t.tolist()) for name, t in found.items()} == {
                name: (t.dtype, t.tolist()) for name, t in state.items()
            }


@pytest.mark.parametrize(
    ("code", "kind", "named"),
    [
        ("torch.jit.trace(len)", AttributeError, "torch.jit.trace"),
        ("torch.ones(1).cuda()", AttributeError, "torch.Tensor.cuda"),
        ("torch.ones(1).backward()", AttributeError, "torch.Tensor.backward"),
        ("torch.cuda.synchronize()", AttributeError, "torch.cuda.synchronize"),
        ("torch.nn.Conv1d(2, 2, 1)", NotImplementedError, "torch.nn.Conv1d"),
        ("torch.nn.Module()(1)", NotImplementedError, "torch.nn.Module.forward"),
        ("torch.nn.functional.interpolate(1)", NotImplementedError, "torch.nn.functional.interpolate"),
        ("from torch import compile", ImportError, "torch.compile"),
        ("import torch.hub", ModuleNotFoundError, "torch.hub"),
        ("from torch.optim import Adam; Adam()", NotImplementedError, "torch.optim.Adam"),
        ("import torch.onnx", ModuleNotFoundError, "torch.onnx"),
        ("from safetensors.torch import deserialize", ImportError, "deserialize"),
    ],
)
def test_what_is_missing_is_named_and_says_what_wconv_is(
    no_torch: None, code: str, kind: type[Exception], named: str
) -> None:
    with shim.installed() as torch, pytest.raises(kind) as raised:
        exec(code, {"torch": torch})
    assert type(raised.value) is kind
    assert named in str(raised.value)
    assert "wconv" in str(raised.value) or kind is ImportError


@pytest.mark.parametrize("call", ["set_grad_enabled(True)", "inference_mode(False)"])
def test_autograd_is_refused(call: str) -> None:
    with pytest.raises(NotImplementedError, match="no gradients"):
        eval(f"shim.{call}")


@pytest.mark.parametrize("place", ["cuda", "mps", shim.device("cuda:0")])
def test_other_devices_are_refused_wherever_one_can_be_given(place: Any) -> None:
    for call in (
        lambda: shim.zeros(1, device=place),
        lambda: shim.tensor(1, device=place),
        lambda: shim.arange(3, device=place),
        lambda: shim.full((1,), 2, device=place),
        lambda: shim.zeros_like(shim.ones(1), device=place),
        lambda: shim.asarray([1], device=place),
        lambda: shim.ones(1).to(place),
        lambda: shim.ones(1).to(device=place, dtype=shim.float16),
    ):
        with pytest.raises(RuntimeError, match="CPU"):
            call()


def test_questions_about_devices_are_answered_truly() -> None:
    assert not shim.cuda.is_available()
    assert shim.cuda.device_count() == 0
    assert not shim.backends.mps.is_available()
    assert not isinstance(shim.ones(1), shim.nn.Module)
    assert shim.version.cuda is None


def test_what_only_a_gpu_needs_does_nothing() -> None:
    shim.cuda.empty_cache()
    shim.mps.empty_cache()
    shim.xpu.empty_cache()
    shim.cuda.manual_seed_all(3)
    shim.backends.cudnn.benchmark = True
    assert shim.cuda.memory_allocated() == 0


def test_the_version_is_one_that_consumers_take_for_less_than_all_of_torch() -> None:
    major, minor = shim.__version__.split(".")[:2]
    assert (2, 0) <= (int(major), int(minor)) < (2, 6)


SCRIPT = """
import sys
import torch
from pathlib import Path
from neighbour import NAME
from torch import nn
assert __name__ == "__main__"
print(torch.__version__ == sys.modules["wconv.torch"].__version__, NAME, sys.argv[1:], Path(__file__).name)
raise SystemExit(3)
"""


USUAL = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
"""The environment in which Python puts the directory of a script first."""


def test_a_script_runs_unchanged(tmp_path: Path) -> None:
    (tmp_path / "convert.py").write_text(SCRIPT)
    (tmp_path / "neighbour.py").write_text("NAME = 'near'")
    command = [sys.executable, "-m", "wconv.torch"]
    done = subprocess.run(
        [*command, str(tmp_path / "convert.py"), "--torch-path", "x"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=USUAL,
    )
    assert (done.stdout.strip(), done.returncode) == ("True near ['--torch-path', 'x'] convert.py", 3), (
        done.stderr
    )


def test_a_module_runs_unchanged(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("NAME = 'near'")
    (tmp_path / "convert.py").write_text(SCRIPT)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from wconv.torch.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "-m", "convert", "a"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=USUAL,
    )
    assert (done.stdout.strip(), done.returncode) == ("True near ['a'] convert.py", 3), done.stderr


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["none.py"], 1)])
def test_the_runner_says_how_it_is_used(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wconv.torch", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == code
    assert "usage: python -m wconv.torch" in done.stdout + done.stderr


COST = """
import resource, sys
before = resource.getrusage(resource.RUSAGE_SELF)
{}
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""


def test_importing_costs_little_more_than_numpy_and_ml_dtypes(tmp_path: Path) -> None:
    """Processor time, with compiled bytecode, the best of several runs of each, taken in turns."""

    def cost(statement: str) -> float:
        flags = ("-X", f"pycache_prefix={tmp_path}")
        code = "import sys; sys.dont_write_bytecode = False\n" + COST.format(statement)
        done = in_python(code, flags=flags)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    base, ours = "import numpy, ml_dtypes", "import wconv.torch"
    for statement in (base, ours):
        cost(statement)
    best = dict.fromkeys((base, ours), math.inf)
    for turn in range(20):
        best = {statement: min(least, cost(statement)) for statement, least in best.items()}
        if turn >= 2 and best[ours] <= 1.4 * best[base]:
            return
    pytest.fail(f"{best[ours]:.3f} s against {best[base]:.3f} s")


def test_with_a_safe_path_no_directory_of_the_path_is_lost(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("VALUE = 7\n")
    (tmp_path / "script.py").write_text("import helper, torch\nprint(helper.VALUE, torch.__name__)\n")
    for where in (["-m", "script"], [str(tmp_path / "script.py")]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "wconv.torch", *where],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == ["7", "wconv.torch"], done.stderr
