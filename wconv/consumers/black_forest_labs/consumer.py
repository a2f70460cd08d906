"""Black Forest Labs' own programs as a consumer: the way back to their single files, and adapters.

Facts on adapters: flux, `modules/lora.py`. It knows no alpha: the scale goes into the matrix.
"""

from __future__ import annotations

from wconv.consumers.adapters.naming import Keys, Naming
from wconv.consumers.consumer import Consumer

BLACK_FOREST_LABS = Consumer(
    "Black Forest Labs' own programs",
    "bfl",
    "way back",
    output_suffix="bfl",
    format="pt",
    adapter_naming=Naming(
        "Black Forest Labs' programs",
        "original",
        Keys(),
        {"main": ""},
        "none",
        linear=True,
        families=("flux", "flux2"),
    ),
)
