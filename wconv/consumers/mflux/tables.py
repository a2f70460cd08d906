"""mflux's layout of Depth Pro, which is recognised by its keys: the checkpoint has no config."""

from __future__ import annotations

from wconv.consumers import table_files

LAYOUTS = (table_files.component("mflux", "depth_pro"),)
