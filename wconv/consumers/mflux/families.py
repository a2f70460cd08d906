"""mflux's image models: of which components each is made, and which pipelines are which model.

The layouts are files, `tables/<model>.<component>.toml`: those with `derived_from` were read off mflux's own
mappings and loader (`python -m tests.derive mflux`), a person wrote the others. mflux looks for its own form
first: files whose headers name it, with the paths of its modules as keys. These need neither its mappings nor
torch. Facts: mflux 0.24, `weight_loader.py`, `model_saver.py` and `weights/*` of each model.
"""

from __future__ import annotations

import functools

from wconv.consumers.component_family import ComponentFamily, FamilyOfFiles

PROMPT = "--model {model} --prompt 'A cat'"

ROWS = (
    FamilyOfFiles(
        "flux",
        ("transformer", "vae", "text_encoder", "text_encoder_2"),
        classes=("FluxPipeline", "FluxKontextPipeline", "FluxFillPipeline", "FluxControlPipeline"),
        command=f"mflux-generate --base-model dev {PROMPT}",
    ),
    FamilyOfFiles(
        "flux2",
        ("transformer", "vae", "text_encoder"),
        classes=("Flux2KleinPipeline", "Flux2Pipeline"),
        command=f"mflux-generate-flux2 {PROMPT}",
    ),
    FamilyOfFiles(
        "qwen_image",
        ("transformer", "vae", "text_encoder"),
        classes=("QwenImagePipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline"),
        command=f"mflux-generate-qwen {PROMPT}",
    ),
    FamilyOfFiles(
        "fibo",
        ("transformer", "vae", "text_encoder"),
        classes=("BriaFiboPipeline",),
        command=f"mflux-generate-fibo {PROMPT}",
    ),
    FamilyOfFiles("fibo_vlm", ("",)),
    FamilyOfFiles(
        "z_image",
        ("transformer", "vae", "text_encoder"),
        {"text_encoder": "flux2.text_encoder"},
        classes=("ZImagePipeline", "ZImageImg2ImgPipeline"),
        command=f"mflux-generate-z-image {PROMPT}",
    ),
    FamilyOfFiles(
        "seedvr2",
        ("transformer", "vae"),
        files={
            "transformer": ("seedvr2_ema_3b_fp16.safetensors", "seedvr2_ema_7b_fp16.safetensors"),
            "vae": ("ema_vae_fp16.safetensors",),
        },
        command="mflux-upscale-seedvr2 --model {model} --image-path IMAGE",
    ),
    FamilyOfFiles(
        "qwen21",
        ("transformer", "vae", "text_encoder"),
        classes=("QwenImage21Pipeline",),
        command=f"mflux-generate-qwen-2.1 {PROMPT}",
    ),
    FamilyOfFiles(
        "anima",
        ("transformer", "vae", "text_encoder"),
        {"text_encoder": "flux2.text_encoder"},
        files={
            "transformer": tuple(
                f"split_files/diffusion_models/anima-{kind}.safetensors"
                for kind in ("turbo-v1.1", "aesthetic-v1.1", "base-v1.0")
            ),
            "vae": ("split_files/vae/qwen_image_vae.safetensors",),
            "text_encoder": ("split_files/text_encoders/qwen_3_06b_base.safetensors",),
        },
        command="mflux-generate-anima, beside its tokenizers: {model}",
    ),
    FamilyOfFiles(
        "boogu",
        ("transformer", "vae", "mllm"),
        {"vae": "flux.vae", "mllm": "qwen21.text_encoder"},
        classes=("BooguImageTurboPipeline", "BooguImagePipeline"),
        command=f"mflux-generate-boogu {PROMPT}",
    ),
    FamilyOfFiles(
        "ernie_image",
        ("transformer", "vae", "text_encoder"),
        {"vae": "flux2.vae"},
        classes=("ErnieImagePipeline",),
        command=f"mflux-generate-ernie-image {PROMPT}",
    ),
    FamilyOfFiles(
        "fibo2",
        ("transformer", "vae", "text_encoder"),
        {"vae": "flux2.vae"},
        classes=("BriaFibo2Pipeline",),
        command=f"mflux-generate-fibo2 {PROMPT}",
    ),
    FamilyOfFiles("flux_controlnet", ("transformer_controlnet",)),
    FamilyOfFiles(
        "flux_redux",
        ("image_encoder", "image_embedder"),
        {"image_encoder": "flux_redux.siglip", "image_embedder": "flux_redux.redux_encoder"},
        classes=("FluxPriorReduxPipeline",),
        command="mflux-generate-redux, beside the components of FLUX.1: {model}",
    ),
    FamilyOfFiles(
        "flux3",
        ("transformer", "vae", "text_encoder"),
        {"vae": "flux2.vae"},
        command=f"mflux-generate-flux3 {PROMPT}",
    ),
    FamilyOfFiles(
        "ideogram4",
        ("transformer", "unconditional_transformer", "vae", "text_encoder"),
        {
            "transformer": "ideogram4.conditional_transformer",
            "unconditional_transformer": "ideogram4.conditional_transformer",
            "vae": "flux2.vae",
        },
        classes=("Ideogram4Pipeline",),
        command=f"mflux-generate-ideogram4 {PROMPT}",
    ),
    FamilyOfFiles("iris", ("transformer", "text_encoder"), {"text_encoder": "qwen21.text_encoder"}),
    FamilyOfFiles(
        "krea2",
        ("transformer", "vae", "text_encoder"),
        {"vae": "qwen_image.vae"},
        classes=("Krea2Pipeline",),
        command=f"mflux-generate-krea2 {PROMPT}",
    ),
    FamilyOfFiles("krea2_native", ("transformer",)),
    FamilyOfFiles(
        "lens",
        ("diffusion_models",),
        {"diffusion_models": "lens.transformer"},
        files={"diffusion_models": ("diffusion_models/lens_turbo_bf16.safetensors",)},
        command=f"mflux-generate-lens {PROMPT}",
    ),
    FamilyOfFiles(
        "ming_image",
        ("mllm", "connector", "mlp", "transformer", "vae"),
        {"mllm": "ming_image.text_encoder", "mlp": "ming_image.heads", "transformer": "z_image.transformer"},
        command=f"mflux-generate-ming {PROMPT}",
    ),
    FamilyOfFiles(
        "moss_image",
        ("transformer", "vae", "text_encoder"),
        {"vae": "flux2.vae"},
        classes=("MOSSImagePipeline",),
        command=f"mflux-generate-moss-image {PROMPT}",
    ),
    FamilyOfFiles("qwen21_edit", ("transformer", "vae", "text_encoder")),
    FamilyOfFiles("qwen21_controlnet", ("controlnet",)),
    FamilyOfFiles("z_image_controlnet", ("controlnet",)),
)


@functools.cache
def families() -> tuple[ComponentFamily, ...]:
    """Every model of several components that mflux has a layout of."""
    return tuple(row.read("mflux") for row in ROWS)
