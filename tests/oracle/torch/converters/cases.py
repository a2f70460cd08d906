"""All converters that are compared."""

from tests.oracle.torch.converters import diffusers, mflux, mlx_audio, mlx_vlm, scripts

CASES = [*mlx_audio.CASES, *mlx_vlm.CASES, *mflux.CASES, *diffusers.CASES, *scripts.CASES]
