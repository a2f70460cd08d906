"""The layouts of Apple's mlx-examples, and of the packages that grew out of them."""

from __future__ import annotations

from wconv.consumers import table_files
from wconv.consumers.mlx_whisper.tables import WHISPER

LAYOUTS = (WHISPER, table_files.component("mlx_examples", "encodec"))
