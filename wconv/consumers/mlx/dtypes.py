"""The dtypes that MLX computes in, those that it does not hold, and what is written for these."""

from __future__ import annotations

from wconv.consumers.consumer import Substitute

TARGETS = ("float16", "bfloat16", "float32")
"""What `--dtype` accepts: the floating types that MLX computes in."""

SUBSTITUTES = (
    Substitute("float64", "float32", "MLX has no float64"),
    Substitute("complex128", "complex64", "MLX has no complex128"),
    Substitute(
        "float8_e4m3fn", "bfloat16", "mx.load reads it as uint8; kept where a tensor of scales belongs to it"
    ),
    Substitute(
        "float8_e8m0fnu", "bfloat16", "mx.load reads it as uint8; kept where it is a tensor of scales"
    ),
    Substitute("float8_e5m2", "bfloat16", "mx.load refuses it"),
    Substitute("float8_e4m3fnuz", "bfloat16", "mx.load refuses it"),
    Substitute("float8_e5m2fnuz", "bfloat16", "mx.load refuses it"),
    Substitute("float6_e2m3fn", "bfloat16", "mx.load refuses it"),
    Substitute("float6_e3m2fn", "bfloat16", "mx.load refuses it"),
    Substitute("float4_e2m1fn_x2", "bfloat16", "mx.load refuses it"),
)
"""The one table of what MLX cannot hold; every substitute holds each value of its source but float64's."""
