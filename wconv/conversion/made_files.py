"""The files of an output that are neither weights nor copies: configs and indexes, to the last byte."""

from __future__ import annotations

from wconv.conversion.planned import Conversion
from wconv.writing import file_formats, sidecars
from wconv.writing.plan import Plan, within


def is_single_file(conversion: Conversion) -> bool:
    """Whether the output is one weights file, with nothing beside it."""
    return file_formats.single(conversion.report.output.name) is not None


def made_files(conversion: Conversion) -> dict[str, bytes]:
    """What a conversion writes beside its weights and does not copy, by the paths in the output."""
    made: dict[str, bytes] = {}
    if is_single_file(conversion):
        return made
    for name, part in (conversion.parts or {"": conversion}).items():
        # torch's own programs want an index only where there are several files
        if part.plan.index_name in file_formats.INDEXES_OF_SINGLE_FILES or len(part.plan.shards) > 1:
            made[within(name, part.plan.index_name)] = _index(part.plan)
        if part.config is not None:
            made[within(name, part.config_name)] = sidecars.json_bytes(part.config)
    return made


def _index(plan: Plan) -> bytes:
    """What says in which file each tensor is."""
    if plan.index_name == file_formats.DCP.index:
        return file_formats.distributed_index(plan)
    return sidecars.json_bytes(plan.index(), indent=None)
