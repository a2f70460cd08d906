"""What `--layout` may be called, apart from the tables so that `--help` need not load them."""

from __future__ import annotations

CONSUMERS = ("mlx-vlm", "mlx-lm", "mflux", "mlx-examples")
"""In the order in which "auto" asks them: mlx-vlm's layout of a model serves mlx-lm too."""

BACK = ("hf", "bfl")
"""The way back: to the hub's names, or to those of Black Forest Labs' single files."""

NAMES = ("auto", *CONSUMERS, "mlx-whisper", "diffusers", *reversed(BACK))

OF_ADAPTERS = ("peft", "kohya", "comfyui")
"""Namings that only adapters have (`layouts/adapter_namings.py`)."""
