"""What transformers 5 saves computes through wconv what transformers computes: no field is lost.

The consumers alone fail with most of these configs, or compute with their own defaults and say nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.derive.programs import program
from tests.oracle.consumers import silence
from tests.oracle.newer_configs import computed, difference, save
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

AGREE = {
    "mlx-lm": """afmoe apertus cohere cohere2 ernie4_5 exaone4 exaone_moe gemma3 gemma3_text glm4
        glm4_moe gpt2 granite granitemoe granitemoehybrid helium internlm3 iquestcoder laguna
        lfm2_moe llama llava mellum minimax_m2 ministral3 mistral3 mixtral muse_glimmer
        nemotron_h olmo2 olmoe phi phi3 qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_moe qwen3_moe
        qwen3_next qwen3_vl qwen3_vl_moe seed_oss smollm3 solar_open stablelm""",
    "mlx-vlm": """afmoe apertus cohere cohere2 ernie4_5 exaone4 exaone_moe glm4 glm4_moe gpt2 granite
        granitemoe granitemoehybrid helium idefics3 iquestcoder laguna llama llava llava_next
        llava_onevision mellum minicpmv4_6 minicpmv4_7 minimax_m2 ministral3 mistral3 mixtral
        olmo2 olmoe phi phi3 qwen2 qwen2_moe qwen3 qwen3_5_moe_text qwen3_moe qwen3_vl
        qwen3_vl_moe seed_oss smollm3 smolvlm solar_open stablelm""",
}
"""Model types of which all numbers that are changed here arrive, by the consumer that computes."""

RIGHT_ALONE = {
    "mlx-lm": "laguna lfm2_moe ministral3 nemotron_h qwen3 qwen3_5",
    "mlx-vlm": "laguna minicpmv4_6 minicpmv4_7 ministral3 qwen3_5_moe_text",
}
"""Those whose consumer computes the same with the config as transformers wrote it."""

ITS_OWN_WAY = {
    "ernie4_5_moe": "leaves out e_score_correction_bias, by which experts are chosen",
    "gemma2": "has no sliding window",
    "glm": "turns all of each head: it reads no partial_rotary_factor",
    "gpt_oss": "has one swiglu_alpha, 1.702",
    "mamba": "has one epsilon, MLX's default",
    "mamba2": "has one epsilon in front of each layer, MLX's default",
    "mistral": "has a sliding window only beside layers without one",
    "starcoder2": "has no sliding window and another GELU",
}
"""Model types that mlx-lm computes otherwise than transformers; no field of config.json would change that."""

CLOSE = 1e-4
CASES = [(name, model_type) for name, types in AGREE.items() for model_type in types.split()]


@pytest.mark.parametrize(("name", "model_type"), CASES, ids=[f"{one}-{other}" for one, other in CASES])
def test_logits_are_those_of_transformers(name: str, model_type: str, tmp_path: Path) -> None:
    oracle(name.replace("-", "_"))
    prog = program(name)
    with silence():
        expected = save(prog, model_type, tmp_path / "source")
        wconv.convert(tmp_path / "source", tmp_path / "ours")
        got = computed(prog, tmp_path / "ours")
    assert difference(got, expected) < CLOSE
    assert (alone(name, tmp_path / "source", expected) < CLOSE) is (model_type in RIGHT_ALONE[name].split())


@pytest.mark.parametrize("model_type", ITS_OWN_WAY)
def test_what_mlx_lm_computes_its_own_way_is_no_matter_of_the_config(model_type: str, tmp_path: Path) -> None:
    oracle("mlx_lm")
    prog = program("mlx-lm")
    with silence():
        expected = save(prog, model_type, tmp_path / "source")
        wconv.convert(tmp_path / "source", tmp_path / "ours")
        got = computed(prog, tmp_path / "ours")
    assert difference(got, expected) > CLOSE, "mlx-lm computes as transformers now: it belongs into AGREE"


def alone(name: str, source: Path, expected: object) -> float:
    """How far the consumer is without wconv; infinite where it fails."""
    try:
        with silence():
            return difference(computed(program(name), source), expected)  # type: ignore[arg-type]
    except Exception:
        return float("inf")
