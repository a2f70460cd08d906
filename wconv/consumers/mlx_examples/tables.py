"""The layouts of Apple's mlx-examples, and of the packages that grew out of them."""

from __future__ import annotations

from wconv.consumers.mlx_examples.encodec import ENCODEC
from wconv.consumers.mlx_whisper.tables import WHISPER

LAYOUTS = (WHISPER, ENCODEC)
