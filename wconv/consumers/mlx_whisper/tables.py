"""mlx-whisper's layout of Whisper, which mlx-examples shares: from OpenAI's names and transformers'."""

from __future__ import annotations

from wconv.consumers import table_files

WHISPER = table_files.component("mlx_whisper", "whisper")
LAYOUTS = (WHISPER,)
