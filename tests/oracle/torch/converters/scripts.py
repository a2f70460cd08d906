"""Scripts that no registry has: from the directories that variables name, or not at all.

`WCONV_SCRIPTS` names a directory with checkouts of the repositories under `mlx-examples`, `safetensors` and
`sd-scripts`; `WCONV_SPANDREL` where spandrel and einops are installed.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any

from tests.oracle.torch.converters.case import Case, tensors
from tests.oracle.torch.converters.mlx_audio import saved

SCRIPTS = "WCONV_SCRIPTS"
EXAMPLES, KOHYA, SAFETENSORS = "mlx-examples", "sd-scripts", "safetensors"


def script(repository: str, path: str, *arguments: str, beside: bool = True) -> Any:
    """Runs a script as it stands; `{in}` and `{out}` in its arguments are the folders."""

    def run(folder: Path, out: Path) -> None:
        place = Path(os.environ[SCRIPTS]) / repository / path
        kept, here, path_kept = sys.argv, os.getcwd(), list(sys.path)
        places = {"in": str(folder.resolve()), "out": str(out.resolve())}
        sys.argv = [str(place), *(each.format_map(places) for each in arguments)]
        if beside:
            sys.path[:0] = [str(place.parent), str(place.parents[1])]
        os.chdir(folder)
        own = set(sys.modules)
        try:
            runpy.run_path(str(place), run_name="__main__")
        finally:
            os.chdir(here)
            sys.argv, sys.path[:] = kept, path_kept
            for name in set(sys.modules) - own:
                if str(Path(os.environ[SCRIPTS])) in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]

    return run


def stand_in(name: str, **members: Any) -> None:
    """A module that a script imports and does not use."""
    if name not in sys.modules:
        made = types.ModuleType(name)
        made.__dict__.update(members, __path__=[])
        sys.modules[name] = made
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, made)


class Nothing:
    """Stands for a class that is imported and not used."""


def make_clip(torch: Any, folder: Path) -> None:
    saved(
        {"text.w": (3, 4), "vision.patch_embedding.weight": (4, 3, 2, 2), "logit_scale": ()},
        "float32",
        "float16",
        name="pytorch_model.bin",
    )(torch, folder)
    for name in ("config.json", "merges.txt", "vocab.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")


def make_consolidated(torch: Any, folder: Path) -> None:
    shapes = {
        "tok_embeddings.weight": (6, 4),
        "layers.0.attention.wq.weight": (4, 4),
        "layers.0.attention.wo.weight": (4, 4),
        "norm.weight": (4,),
    }
    for shard in range(2):
        torch.save(tensors(torch, shapes, "bfloat16", "float16"), folder / f"consolidated.0{shard}.pth")
    (folder / "params.json").write_text(json.dumps({"dim": 4, "n_layers": 1}))
    (folder / "tokenizer.model").write_bytes(b"x")


def make_mixtral(torch: Any, folder: Path) -> None:
    shapes = {
        "layers.0.block_sparse_moe.w1": (8, 6),
        "layers.0.block_sparse_moe.w2": (8, 6),
        "layers.0.block_sparse_moe.gate.weight": (2, 6),
        "norm.weight": (6,),
    }
    for at in range(2):
        torch.save(tensors(torch, shapes, "bfloat16"), folder / f"consolidated.0{at}.pt")
    (folder / "params.json").write_text(json.dumps({"moe": {"num_experts": 2}}))
    (folder / "tokenizer.model").write_bytes(b"x")


def make_adapter(*modules: str, out: int = 12) -> Any:
    def make(torch: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        state = {}
        for module in modules:
            state[f"{module}.lora_down.weight"] = torch.randn(4, 6).half()
            state[f"{module}.lora_up.weight"] = torch.randn(out, 4).half()
            state[f"{module}.alpha"] = torch.tensor(3.0).half()
        save_file(state, folder / "adapter.safetensors", {"ss_network_dim": "4"})

    return make


def kohya(path: str, *arguments: str) -> Any:
    """A script of kohya's: what its package imports of training is not there, and not used."""

    def run(folder: Path, out: Path) -> None:
        from safetensors.torch import load_file

        stand_in("library", __path__=[])
        stand_in("library.utils", setup_logging=lambda *a, **k: None, str_to_dtype=Nothing)
        stand_in("library.train_util", precalculate_safetensors_hashes=lambda *a: ("", ""))
        try:
            script(KOHYA, path, *arguments)(folder, out)
        finally:
            for name in ("library.train_util", "library.utils", "library"):
                sys.modules.pop(name, None)
        for path_written in out.glob("*.safetensors"):
            assert load_file(path_written)

    return run


FLUX_MODULES = [
    f"lora_unet_double_blocks_0_{part}"
    for part in ("img_attn_proj", "img_attn_qkv", "img_mlp_0", "img_mod_lin", "txt_attn_qkv")
] + ["lora_unet_single_blocks_0_linear1", "lora_unet_single_blocks_0_linear2"]


def make_shared(torch: Any, folder: Path) -> None:
    """Tied weights, a view of a whole, and a state dict in parts."""
    state = tensors(torch, {"a.weight": (4, 6), "b.weight": (2, 3)}, "float32", "bfloat16")
    state |= {"tied": state["a.weight"], "half": torch.randn(8)[:3].clone()}
    torch.save(state, folder / "pytorch_model.bin")
    torch.save({"state_dict": tensors(torch, {"c": (3, 3)})}, folder / "nested.bin")


def convert_single(folder: Path, out: Path) -> None:
    place = Path(os.environ[SCRIPTS]) / SAFETENSORS / "bindings" / "python" / "convert.py"
    own = runpy.run_path(str(place), run_name="convert")
    for name in ("pytorch_model", "nested"):
        own["convert_file"](str(folder / f"{name}.bin"), str(out / f"{name}.safetensors"), [])


def make_esrgan(torch: Any, folder: Path) -> None:
    """Names and shapes of a small ESRGAN, in the three kinds of file that spandrel reads."""
    from safetensors.torch import save_file

    shapes: dict[str, tuple[int, ...]] = {"conv_first.weight": (8, 3, 3, 3), "conv_first.bias": (8,)}
    for part in range(1, 4):
        for layer in range(1, 6):
            shapes[f"body.0.rdb{part}.conv{layer}.weight"] = (
                4 if layer < 5 else 8,
                8 + 4 * (layer - 1),
                3,
                3,
            )
            shapes[f"body.0.rdb{part}.conv{layer}.bias"] = (4 if layer < 5 else 8,)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        shapes |= {f"{name}.weight": (8, 8, 3, 3), f"{name}.bias": (8,)}
    shapes |= {"conv_last.weight": (3, 8, 3, 3), "conv_last.bias": (3,)}
    state = tensors(torch, shapes, "float32", "float16")
    torch.save({"params_ema": state, "epoch": 3}, folder / "model.pth")
    save_file(state, folder / "model.safetensors")


def spandrel(folder: Path, out: Path) -> Any:
    for name in ("torchvision", "torchvision.transforms", "torchvision.ops", "torchvision.models"):
        stand_in(name, DeformConv2d=Nothing)
    stand_in(
        "torchvision.transforms.functional",
        **dict.fromkeys(("InterpolationMode", "rotate", "normalize", "resize"), Nothing),
    )
    own = importlib.import_module("spandrel")
    loader, found = own.ModelLoader(), {}
    for path in sorted(folder.glob("model.*")):
        state = loader.load_state_dict_from_file(path)
        kinds = [each.architecture.id for each in own.MAIN_REGISTRY if each.detect(state)]
        assert kinds
        found |= {f"{path.name}/{name}": value for name, value in state.items()}
        found[f"{path.name} is"] = ",".join(kinds)
    return found


CASES = [
    Case("spandrel", "ModelLoader and detection", make_esrgan, spandrel, "WCONV_SPANDREL"),
    Case(
        EXAMPLES,
        "clip/convert.py",
        make_clip,
        script(
            EXAMPLES, "clip/convert.py", "--hf-repo", "{in}", "--mlx-path", "{out}", "--dtype", "bfloat16"
        ),
        SCRIPTS,
    ),
    Case(
        EXAMPLES,
        "llms/llama/convert.py",
        make_consolidated,
        script(EXAMPLES, "llms/llama/convert.py", "--torch-path", "{in}", "--mlx-path", "{out}"),
        SCRIPTS,
    ),
    Case(
        EXAMPLES,
        "llms/mistral/convert.py",
        make_consolidated,
        script(EXAMPLES, "llms/mistral/convert.py", "--torch-path", "{in}", "--mlx-path", "{out}"),
        SCRIPTS,
    ),
    Case(
        EXAMPLES,
        "llms/mixtral/convert.py",
        make_mixtral,
        script(EXAMPLES, "llms/mixtral/convert.py", "--torch-path", "{in}", "--mlx-path", "{out}"),
        SCRIPTS,
    ),
    Case(SAFETENSORS, "convert.py", make_shared, convert_single, SCRIPTS),
    Case(
        KOHYA,
        "networks/convert_flux_lora.py",
        make_adapter(*FLUX_MODULES, out=21504),
        kohya(
            "networks/convert_flux_lora.py",
            "--src",
            "sd-scripts",
            "--dst",
            "ai-toolkit",
            "--src_path",
            "{in}/adapter.safetensors",
            "--dst_path",
            "{out}/adapter.safetensors",
        ),
        SCRIPTS,
    ),
    *(
        Case(
            KOHYA,
            path,
            make_adapter(*modules),
            kohya(path, "{in}/adapter.safetensors", "{out}/adapter.safetensors"),
            SCRIPTS,
        )
        for path, modules in (
            (
                "networks/convert_anima_lora_to_comfy.py",
                ["lora_unet_blocks_0_self_attn_q_proj", "lora_te_layers_0_self_attn_q_proj"],
            ),
            (
                "networks/convert_hunyuan_image_lora_to_comfy.py",
                ["lora_unet_double_blocks_0_img_attn_proj", "lora_unet_single_blocks_0_linear2"],
            ),
        )
    ),
]
