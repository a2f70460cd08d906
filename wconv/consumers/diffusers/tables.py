"""diffusers' layout of the single files that Black Forest Labs publish.

Facts: diffusers 0.42.1, `loaders/single_file_utils.py`, `scripts/convert_flux2_to_diffusers.py`. The files
fuse queries, keys and values, and in the last layer's modulation the shift comes before the scale, where
diffusers has it the other way round; they count the decoder's blocks from the finest, diffusers from the
coarsest. ComfyUI puts its own prefix before every name.
"""

from __future__ import annotations

import functools

from wconv.consumers import table_files
from wconv.consumers.component_family import ComponentFamily, FamilyOfFiles

ROWS = (FamilyOfFiles("flux", ("transformer", "vae")), FamilyOfFiles("flux2", ("transformer", "vae")))

FLUX_RULES = table_files.component("diffusers", "flux.transformer").rules
FLUX2_RULES = table_files.component("diffusers", "flux2.transformer").rules
"""From Black Forest Labs' names of the transformers to diffusers'."""


@functools.cache
def families() -> tuple[ComponentFamily, ...]:
    """The models whose single files have a layout."""
    return tuple(row.read("diffusers") for row in ROWS)
