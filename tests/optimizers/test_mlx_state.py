"""Optimizer state follows the weights to MLX; where it may not belong to them, it is refused.

Covers `optimizers/`, `conversion/optimizer_state.py`.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open

import wconv
import wconv.torch as torch
from tests.making import bits, write_file
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.cli.program import main
from wconv.errors import FormatError, LayoutError, WconvError
from wconv.layouts.apply import Layout
from wconv.layouts.rules import add_one, stack
from wconv.optimizers.matching import match
from wconv.optimizers.torch_state import Group, TorchState
from wconv.tensors.lazy import LazyTensor, from_array

FIXTURE = Path(__file__).parent.parent.parent / "fixtures" / "modules" / "training.pt"

ADAM = {
    "lr": 0.5,
    "betas": (0.9, 0.99),
    "eps": 1e-6,
    "weight_decay": 0.0,
    "amsgrad": False,
    "maximize": False,
}
SGD = {"lr": 0.5, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}
MODEL = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (2, 4), "b.bias": (2,)}


def array(shape: tuple[int, ...], seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def tensor(shape: tuple[int, ...], seed: int) -> Any:
    return torch.from_numpy(array(shape, seed))


def adam(shapes: list[tuple[int, ...]], step: int = 7, **options: Any) -> dict[str, Any]:
    """A state dict of Adam for parameters of these shapes, in one group."""
    state = {
        number: {
            "step": torch.tensor(float(step)),
            "exp_avg": tensor(shape, 10 + number),
            "exp_avg_sq": tensor(shape, 20 + number),
        }
        for number, shape in enumerate(shapes)
    }
    return {"state": state, "param_groups": [{**ADAM, **options, "params": list(range(len(shapes)))}]}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: tensor(shape, seed) for seed, (name, shape) in enumerate(shapes.items())}


def checkpoint(
    tmp_path: Path, optimizer: Any, shapes: dict[str, tuple[int, ...]] = MODEL, **more: Any
) -> Path:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": weights(shapes), "optimizer": optimizer, **more}, path)
    return path


def converted(path: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    out = path.parent / "out"
    report = wconv.convert(path, out, optimizer=True, **options)
    with safe_open(out / "optimizer.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, report  # noqa: SIM118


def refused(path: Path, text: str, error: type[WconvError] = FormatError, **options: Any) -> None:
    with pytest.raises(error, match=text) as raised:
        converted(path, **options)
    assert "\n" not in str(raised.value)
    assert not (path.parent / "out").exists()


def test_state_takes_the_weights_names_and_layout(tmp_path: Path) -> None:
    """A module by torch itself: a Sequential, whose members MLX keeps in `layers`."""
    source = tmp_path / "training.pt"
    source.write_bytes(FIXTURE.read_bytes())
    state, report = converted(source)
    kept = wconv.load(FIXTURE, key="optimizer")
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert state.pop("step") == 3
    assert state.pop("learning_rate") == np.float32(1e-2)
    for number, name in enumerate(names):
        assert bits(state.pop(f"layers.{name}.m")) == bits(kept[f"state.{number}.exp_avg"])
        assert bits(state.pop(f"layers.{name}.v")) == bits(kept[f"state.{number}.exp_avg_sq"])
    assert not state
    assert "mlx.optimizers.AdamW(learning_rate=0.01" in "\n".join(report.lines())
    assert "bias_correction=True" in "\n".join(report.lines())


def test_the_files_say_what_they_are(tmp_path: Path) -> None:
    converted(checkpoint(tmp_path, adam(list(MODEL.values()))))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == MODEL.keys()
    assert index["metadata"]["total_parameters"] == 12 + 4 + 8 + 2
    with safe_open(tmp_path / "out" / "optimizer.safetensors", "np") as file:
        described = json.loads(file.metadata()["optimizer"])
    assert described == [
        {"class": "Adam", "learning_rate": 0.5, "betas": [0.9, 0.99], "eps": 1e-6, "bias_correction": True}
    ]


def test_numbers_follow_the_models_order_past_frozen_parameters(tmp_path: Path) -> None:
    """Only one way to leave one out fits the shapes: a.weight is frozen."""
    state, _ = converted(checkpoint(tmp_path, adam([(4,), (2, 4), (2,)])))
    assert {name.removesuffix(".m") for name in state if name.endswith(".m")} == {
        "a.bias",
        "b.weight",
        "b.bias",
    }
    assert bits(state["b.weight.m"]) == bits(array((2, 4), 11))


def test_numbers_that_fit_in_several_ways_are_refused(tmp_path: Path) -> None:
    twins = {"a.weight": (4, 4), "b.weight": (4, 4), "c.weight": (4, 4)}
    refused(checkpoint(tmp_path, adam([(4, 4), (4, 4)]), twins), "in several ways .2 of 3 in 1 groups.")


def test_groups_are_told_apart_by_shapes_or_refused(tmp_path: Path) -> None:
    """Matrices in one group and vectors in the other, as trainers set weight decay."""
    ordered = [(4, 3), (2, 4), (4,), (2,)]
    optimizer = adam(ordered)
    optimizer["param_groups"] = [{**ADAM, "params": [0, 1]}, {**ADAM, "lr": 0.25, "params": [2, 3]}]
    state, report = converted(checkpoint(tmp_path, optimizer))
    assert bits(state["states.0.b.weight.m"]) == bits(array((2, 4), 11))
    assert bits(state["states.1.a.bias.v"]) == bits(array((4,), 22))
    assert state["states.1.learning_rate"] == np.float32(0.25)
    assert "MultiOptimizer" in "\n".join(report.notes)
    (tmp_path / "twins").mkdir()
    optimizer = adam([(4, 4)] * 2)
    optimizer["param_groups"] = [{**ADAM, "params": [0]}, {**ADAM, "params": [1]}]
    twins = {"a.weight": (4, 4), "b.weight": (4, 4)}
    refused(checkpoint(tmp_path / "twins", optimizer, twins), "in several ways")


def every_way(groups: list[list[int]], shapes: list[Any], names: dict[str, Any]) -> list[dict[int, str]]:
    """All ways to give each number a name of its shape, in the order of the names within each group."""
    count = sum(map(len, groups))
    ways = []
    for picked in itertools.permutations(names, count):
        matched = dict(zip(itertools.chain(*groups), picked, strict=True))
        places = [[list(names).index(matched[number]) for number in group] for group in groups]
        if all(place == sorted(place) for place in places) and all(
            names[name] == shapes[number] for number, name in matched.items()
        ):
            ways.append(matched)
    return ways


def test_an_order_counts_only_if_no_other_fits() -> None:
    """Against a search through all of them."""
    random = np.random.default_rng(0)
    outcomes = []
    for _ in range(400):
        names = {f"{at}.weight": tuple(random.integers(1, 4, 1).tolist()) for at in range(5)}
        count = int(random.integers(1, 6))
        kept = sorted(random.permutation(5)[:count].tolist())
        numbers = random.permutation(count).tolist()
        shapes = [names[f"{kept[number]}.weight"] for number in range(count)]
        cut = int(random.integers(0, count + 1))
        groups = [sorted(numbers[:cut]), sorted(numbers[cut:])] if random.integers(2) else [sorted(numbers)]
        slots = {number: {"exp_avg": from_array(np.zeros(shape))} for number, shape in enumerate(shapes)}
        state = TorchState("state", tuple(Group({}, tuple(group)) for group in groups), slots, {})
        tensors: dict[str, LazyTensor] = {name: from_array(np.zeros(shape)) for name, shape in names.items()}
        ways = every_way(groups, shapes, names)
        outcomes.append(len(ways) > 1)
        try:
            found = match(state, Checkpoint(Path("x"), "pickle", tensors, (Path("x"),)))
        except FormatError:
            assert len(ways) != 1
        else:
            assert ways == [found]
    assert 50 < sum(outcomes) < 350


def test_names_count_where_the_state_has_them(tmp_path: Path) -> None:
    twins = {"a.weight": (4, 4), "b.weight": (4, 4), "c.weight": (4, 4)}
    optimizer = adam([(4, 4), (4, 4)])
    optimizer["param_groups"][0]["param_names"] = ["module.c.weight", "module.a.weight"]
    state, _ = converted(checkpoint(tmp_path, optimizer, twins))
    assert bits(state["c.weight.m"]) == bits(array((4, 4), 10))
    assert bits(state["a.weight.m"]) == bits(array((4, 4), 11))
    assert "b.weight.m" not in state


def test_programs_that_call_parameters_by_name(tmp_path: Path) -> None:
    """Sharded training saves names in the place of numbers."""
    numbered = adam([(4, 4), (4, 4)])
    state = {"c.weight": numbered["state"][0], "a.weight": numbered["state"][1]}
    groups = [{**ADAM, "params": list(state)}]
    twins = {"a.weight": (4, 4), "b.weight": (4, 4), "c.weight": (4, 4)}
    found, _ = converted(checkpoint(tmp_path, {"state": state, "param_groups": groups}, twins))
    assert bits(found["c.weight.m"]) == bits(array((4, 4), 10))
    assert bits(found["a.weight.m"]) == bits(array((4, 4), 11))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a.weight", "d.weight"], "names a parameter 'd.weight', which the model has not"),
        (["a.weight", "a.weight"], "names a parameter twice"),
        (["a.weight", "a.bias"], r"has \(4, 4\) for a.bias, which is \(4,\)"),
        (["a.weight"], "2 parameters and 1 names"),
    ],
)
def test_names_that_do_not_fit_are_refused(names: list[str], text: str, tmp_path: Path) -> None:
    optimizer = adam([(4, 4), (4, 4)])
    optimizer["param_groups"][0]["param_names"] = names
    refused(checkpoint(tmp_path, optimizer, {"a.weight": (4, 4), "a.bias": (4,), "b.weight": (4, 4)}), text)


def test_a_model_directory_with_optimizer_beside_it(tmp_path: Path) -> None:
    """Trainers write optimizer.pt; safetensors have no order, so that names are needed."""
    model = tmp_path / "model"
    model.mkdir()
    write_file(model / "model.safetensors", {name: array(shape, 1) for name, shape in MODEL.items()})
    optimizer = adam(list(MODEL.values()))
    torch.save(optimizer, model / "optimizer.pt")
    refused(model, "safetensors do not keep a model's order")
    optimizer["param_groups"][0]["param_names"] = list(MODEL)
    torch.save(optimizer, model / "optimizer.pt")
    state, report = converted(model)
    assert bits(state["b.bias.v"]) == bits(array((2,), 23))
    assert "optimizer.pt" not in report.left_out


def test_sgd_keeps_its_momentum(tmp_path: Path) -> None:
    shapes = list(MODEL.values())
    state = {number: {"momentum_buffer": tensor(shape, number)} for number, shape in enumerate(shapes)}
    groups = [{**SGD, "params": [0, 1, 2, 3]}]
    found, report = converted(checkpoint(tmp_path, {"state": state, "param_groups": groups}))
    assert bits(found["b.weight.v"]) == bits(array((2, 4), 2))
    assert found["step"] == 0
    assert "SGD(learning_rate=0.5, momentum=0.9)" in "\n".join(report.notes)


def test_sgd_without_momentum_has_nothing_to_match(tmp_path: Path) -> None:
    groups = [{**SGD, "momentum": 0, "params": [0, 1]}]
    found, _ = converted(checkpoint(tmp_path, {"state": {}, "param_groups": groups}))
    assert found.keys() == {"step", "learning_rate"}


def test_adam_with_weight_decay_is_told_apart_from_adamw(tmp_path: Path) -> None:
    shapes = list(MODEL.values())
    for place, options, text in (
        ("old", {}, "does not say whether it is of AdamW or of Adam with weight decay 0.1"),
        ("adam", {"decoupled_weight_decay": False}, "mlx.optimizers.Adam has no weight decay: add 0.1"),
    ):
        (tmp_path / place).mkdir()
        optimizer = adam(shapes, weight_decay=0.1, **options)
        _, report = converted(checkpoint(tmp_path / place, optimizer))
        assert text in "\n".join(report.notes)


def test_a_dtype_asked_for_is_the_weights(tmp_path: Path) -> None:
    """Second moments underflow in float16: they stay as they are."""
    state, report = converted(checkpoint(tmp_path, adam(list(MODEL.values()))), dtype="float16")
    assert state["a.weight.v"].dtype == np.float32
    assert "the state is float32, the weights are float16" in "\n".join(report.notes)
    assert wconv.load(tmp_path / "out")["a.weight"].dtype == np.float16


def test_left_out_weights_leave_their_state_out(tmp_path: Path) -> None:
    state, report = converted(checkpoint(tmp_path, adam(list(MODEL.values()))), exclude=r"^a\.")
    assert {name for name in state if name.startswith("a.")} == set()
    assert "the states of 2 parameters are left out with them" in report.notes


def test_tied_weights_have_one_state(tmp_path: Path) -> None:
    shared = tensor((4, 3), 0)
    model = {"embed.weight": shared, "bias": tensor((3,), 1), "head.weight": shared}
    torch.save({"model": model, "optimizer": adam([(4, 3), (3,)])}, tmp_path / "checkpoint.pt")
    state, _ = converted(tmp_path / "checkpoint.pt")
    assert bits(state["embed.weight.m"]) == bits(array((4, 3), 10))
    assert bits(state["bias.m"]) == bits(array((3,), 11))


@pytest.mark.parametrize(
    ("optimizer", "text"),
    [
        (adam([(4, 3)] * 5), "has 5 parameters and the model 4"),
        (adam([(4, 3), (5,), (2, 4), (2,)]), "does not fit the order of the model's parameters"),
        (adam(list(MODEL.values()), amsgrad=True), "Adam with amsgrad, which MLX has not"),
        (adam(list(MODEL.values()), maximize=True), "Adam with maximize"),
        ({"state": {}, "param_groups": []}, "no state dict of an optimizer"),
        ({"state": [], "param_groups": [{"params": []}]}, "no state dict of an optimizer"),
        ({"state": {}, "param_groups": [{"params": [(1, 2)]}]}, "do not number parameters"),
        (
            {"state": {9: {}}, "param_groups": [{**ADAM, "params": [0]}]},
            "for a parameter that is in none of its groups",
        ),
        ({"state": {}, "param_groups": [{**ADAM, "params": [0, 0]}]}, "in two groups"),
        ({"state": {}, "param_groups": [{"lr": 1.0, "params": [0]}]}, "not of Adam, AdamW or SGD"),
        (
            {
                "state": {0: {"exp_avg": tensor((4, 3), 1), "row": tensor((4,), 1)}},
                "param_groups": [{**ADAM, "params": [0]}],
            },
            "has several shapes|keeps exp_avg, row",
        ),
        ({"state": {0: {"exp_avg": "text"}}, "param_groups": [{**ADAM, "params": [0]}]}, "of another kind"),
        ({"state": {0: {"step": 1.5}}, "param_groups": [{**ADAM, "params": [0]}]}, "no count of steps"),
        ({"state": {0: {"step": 10**400}}, "param_groups": [{**ADAM, "params": [0]}]}, "no count of steps"),
        (adam([], lr="much"), "'much' for lr, which is no such number"),
        (adam([], lr=float("nan")), "nan for lr"),
        (adam([], betas=[0.9]), "0.9. for betas"),
        (adam([], betas=[0.9, [1]]), "for the second of betas"),
        (adam([], eps=-1.0), "-1.0 for eps"),
        ({"state": {0: {1: 2}}, "param_groups": [{**ADAM, "params": [0]}]}, "without names"),
        (None, "holds no optimizer state"),
    ],
)
def test_what_is_no_state_of_these_weights_is_refused(optimizer: Any, text: str, tmp_path: Path) -> None:
    refused(checkpoint(tmp_path, optimizer), text)


def test_parameters_at_different_steps_are_refused(tmp_path: Path) -> None:
    optimizer = adam(list(MODEL.values()))
    optimizer["state"][2]["step"] = torch.tensor(3.0)
    refused(checkpoint(tmp_path, optimizer), r"different numbers of steps \(3, 7\)")


def test_several_optimizers_are_refused(tmp_path: Path) -> None:
    one = adam(list(MODEL.values()))
    refused(checkpoint(tmp_path, [one, one]), r"the states of 2 optimizers \(optimizer\[0\]")


def test_a_parameter_in_the_place_of_mlxs_own_keys_is_refused(tmp_path: Path) -> None:
    optimizer = adam([(3,)])
    refused(checkpoint(tmp_path, optimizer, {"step.weight": (3,)}), "MLX keeps 'step'", LayoutError)


def test_a_single_file_cannot_hold_both(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, adam(list(MODEL.values())))
    with pytest.raises(WconvError, match=r"make .* a directory"):
        wconv.convert(path, tmp_path / "out.safetensors", optimizer=True)
    assert not (tmp_path / "out.safetensors").exists()


STACKED = Layout(
    consumers=("a consumer",),
    model_types=("any",),
    names=("norm.weight", "experts.weight"),
    rules=(add_one("norm.weight"), stack("experts.{e}.weight", "experts.weight")),
)


def test_moments_are_stacked_as_weights_are_but_not_shifted(tmp_path: Path) -> None:
    shapes = {"norm.weight": (4,), "experts.0.weight": (2, 3), "experts.1.weight": (2, 3)}
    path = checkpoint(tmp_path, adam(list(shapes.values())), shapes)
    state, _ = converted(path, rules=STACKED)
    assert bits(wconv.load(tmp_path / "out")["norm.weight"]) == bits(array((4,), 0) + np.float32(1))
    assert bits(state["norm.weight.m"]) == bits(array((4,), 10))
    assert bits(state["experts.weight.v"]) == bits(np.stack([array((2, 3), 21), array((2, 3), 22)]))


def test_a_tensor_of_which_only_a_part_has_a_state_is_refused(tmp_path: Path) -> None:
    shapes = {"norm.weight": (4,), "experts.0.weight": (2, 3), "experts.1.weight": (2, 3)}
    optimizer = adam(list(shapes.values()))
    del optimizer["state"][2]
    refused(
        checkpoint(tmp_path, optimizer, shapes),
        "experts.1.weight, which has no state",
        LayoutError,
        rules=STACKED,
    )


def test_the_command_has_the_option(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, adam(list(MODEL.values())))
    planned = CliRunner().invoke(main, [str(path), "--optimizer", "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert "a.weight.m  float32  [4, 3]  ← a.weight" in planned.output
    done = CliRunner().invoke(main, [str(path), "--optimizer"])
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (tmp_path / "checkpoint-MLX").iterdir()) == [
        "model.safetensors",
        "model.safetensors.index.json",
        "optimizer.safetensors",
    ]
