"""What mlx-vlm 0.7.10 does to dtypes of models that have no table here."""

from __future__ import annotations

from wconv.consumers.cast_rules import CastRules
from wconv.consumers.mlx import cast_patterns as names

_MODEL_TYPES = """
afm7 afmoe apertus aya_vision baichuan_m1 bailing_moe bailing_moe_linear bert bitnet bunny-llama clef
cohere cohere2 cohere2_moe cohere2_vision cohere2moe cohere_compass colidefics3 colqwen2_5 d1 d1_omni dbrx
decider2 deepseek deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 deepseek_v41 deepseek_vl_v2 deepseekocr
deepseekocr_2 diffusion_gemma dinov2 dinov2_with_registers dots1 dots_ocr embedding_gemma2 ernie4_5
ernie4_5_moe ernie4_5_moe_vl exaone exaone4 exaone_moe falcon-perception falcon_h1 falcon_mamba falcon_ocr
falcon_perception fastvlm flint florence2 gemma gemma2 gemma3 gemma3_embedding gemma3_text gemma3n gemma4
gemma4_text gemma4_unified gliner2_5 glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe glm5_next glm_moe_dsa
glm_ocr got gpt2 gpt_bigcode gpt_neox gpt_oss granite granite-vision granite4-vision granite4_vision
granite_vision granitemoe granitemoehybrid helium hrm_text hunyuan hunyuan_v1_dense hunyuan_vl hy_v4
idefics2 idefics3 indic_ocr inkling inkling_mm_model internlm2 internlm3 internvl internvl_chat
iquestcoder iquestloopcoder jamba jina_vlm joyai_llm_flash jvlm k2_horizon kimi_k2 kimi_k25 kimi_k3
kimi_linear kimi_vl klear kolibri1 laguna laya lfm2 lfm2-vl lfm2_colbert lfm2_embedding lfm2_encoder
lfm2_moe lfm2_vl lille-130m lille_130m limite llada2_moe llama llama4 llama4_text llama_bidirec
llama_nemotron_vl_embedding llava llava-qwen2 llava_bunny llava_next llava_onevision llava_qwen2 llmjpvl
locateanything longcat_flash longcat_flash_ngram longcat_flash_sparse mage_vl mamba mamba2 mellum mimo
mimo_v2 mimo_v2_flash minicpm minicpm3 minicpmo minicpmv4_6 minicpmv4_7 minimax minimax_m2 minimax_m3
minimax_m3_vl ministral3 ministral3_embedding mistral mistral3 mistral_large3 mixtral mllama modernbert
moge3 molmo molmo2 molmo_point moondream1 moondream2 moondream3 multi_modality muse_glimmer muse_spark
muse_spark_open nanochat nemotron nemotron-nas nemotron_h nemotron_h_nano_omni nemotron_h_omni
nemotron_h_puzzle nemotron_labs_diffusion nemotron_nas nemotron_parse nemotron_voicechat
nemotronh_nano_omni_reasoning_v3 olmo olmo2 olmo3 olmoe openai_privacy_filter openelm paddleocr_vl
paligemma phi phi-msft phi3 phi3_v phi3small phi4-siglip phi4_siglip phi4mm phimoe phixtral pixtral plamo
plamo2 plamo2vl pp_doclayout_v3 prism_hadamard_qwen35 qwen qwen2 qwen2_5_vl qwen2_moe qwen2_vl qwen3
qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_embedding qwen3_moe qwen3_next qwen3_omni_moe
qwen3_vl qwen3_vl_embedding qwen3_vl_moe qwen4_exp recurrent_gemma rf-detr rfdetr rt_detr_v2 rwkv7 sam3
sam3.1_video sam3_1 sam3_video sam3d_body sam3d_objects sapiens2 seed_oss siglip smollm3 smolvlm
solar_open spark2_5 stablelm starcoder2 step3p5 step3p7 telechat3 unlimited-ocr unlimited_ocr
video_depth_anything xing4_0 xlm_roberta youtu_llm youtu_vl z1t zaya1_vl
"""

MODEL_TYPES = frozenset(_MODEL_TYPES.split())
"""The models that it loads, other spellings that it takes for these too; in lower case, as `config.json` may
have capitals where its module has none."""

CASTS = CastRules(
    MODEL_TYPES,
    {
        **dict.fromkeys(("bailing_moe_linear", "klear", "lfm2_moe"), names.EXPERT),
        **dict.fromkeys(
            ("deepseek_v3", "deepseek_v32", "glm_moe_dsa", "xing4_0", "kimi_k2"), names.CORRECTION
        ),
        **dict.fromkeys(("glm4_moe", "glm4_moe_lite", "solar_open", "laguna", "mimo_v2"), names.CORRECTION),
        **dict.fromkeys(("longcat_flash", "longcat_flash_ngram", "longcat_flash_sparse"), names.CORRECTION),
        **dict.fromkeys(("minimax", "minimax_m2", "joyai_llm_flash"), names.CORRECTION),
        **dict.fromkeys(
            ("minimax_m3", "minimax_m3_vl"), (*names.CORRECTION, "**block_sparse_moe.gate.weight")
        ),
        **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"), names.DECAY),
        **dict.fromkeys(("clef", "decider2", "indic_ocr", "prism_hadamard_qwen35", "qwen4_exp"), names.DECAY),
        "minicpmv4_7": names.DECAY,
        "deepseek_v4": (
            *names.CORRECTION,
            *names.HYPER,
            "**.gate.bias",
            "**attn_sink**",
            "**bias_vl**",
            "**.hc_head.**",
            "hc_head_**",
        ),
        "glm5_next": (
            "**(A_log|dt_bias|e_score_correction_bias)",
            *names.HYPER,
            "**index_kpool_compress**",
        ),
        "hy_v4": (
            *names.CORRECTION,
            "**learnable_sink_param**",
            "**.(hc_attn_layer|hc_mlp_layer|hc_head).**",
        ),
        "kimi_linear": names.RECURRENT,
        **dict.fromkeys(("muse_spark", "muse_spark_open"), names.GATES),
        **dict.fromkeys(("nemotron_h", "nemotron_h_puzzle"), names.HYBRID),
        "nemotron_voicechat": ("**A_log**", "**(special_flags|is_continuation|pad_tensor)"),
        "openai_privacy_filter": ("**.sinks",),
        "step3p5": names.ROUTER,
    },
    {
        "baichuan_m1": names.HEAD,
        "bailing_moe": names.HEAD,
        "bailing_moe_linear": names.HEAD,
        "falcon_h1": names.FALCON,
        "granite4_vision": ("**.lora_(A|B).weight",),
        **dict.fromkeys(("minicpmv4_6", "minicpmv4_7"), names.QWEN_NORMS),
        **dict.fromkeys(("muse_spark", "muse_spark_open"), names.MUSE),
        "phi4mm": ("**.lora_(A|B).vision.weight",),
        **dict.fromkeys(("clef", "decider2", "indic_ocr", "prism_hadamard_qwen35"), names.QWEN_NORMS),
        **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text"), names.QWEN_NORMS),
        **dict.fromkeys(("step3p5", "step3p7"), ("**norm**.weight",)),
    },
)
