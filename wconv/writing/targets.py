"""Where an output may go: what stands there is judged before any work, and again before it is replaced.

`--overwrite` replaces an output of our own kind alone: a weights file by a weights file, a directory that
holds nothing but what conversions write or copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from wconv.errors import FormatError, OutputError, os_errors_as
from wconv.formats import registry
from wconv.stores.replacing import check_node, files_in
from wconv.writing import file_formats

INSIDE = ".wconv-partial"
"""The partial directory of an output that is a mount point, or cannot be written beside."""

SPARED = (INSIDE, "lost+found")
"""What an empty directory may hold: our own work, and what a file system makes for itself."""

WEIGHTS_NAME = re.compile(
    r"(?:model|pytorch_model|diffusion_pytorch_model|consolidated|weights|optimizer|adapters?|adapter_model"
    r"|pytorch_lora_weights|\d{1,6})(?:\.\w+)?(?:-\d{5,6}-of-\d{5,6})?(?:\.\w+)?"
    rf"(?:{'|'.join(map(re.escape, file_formats.suffixes()))})|__0_\d+\.distcp"
)
"""What weights are called in a directory that a conversion wrote."""

INDEX_NAME = re.compile(
    rf".+(?:{'|'.join(map(re.escape, registry.shard_suffixes()))})\.index(?:\.\w+)?\.json|model_index\.json"
    r"|\.metadata"
)

SIDECAR_NAME = re.compile(
    r"(?:config|generation_config|adapter_config|quantization_config|scheduler_config|configuration|params"
    r"|(?:pre|video_pre|image_)?processor_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens"
    r"|vocab|normalizer|tekken|chat_template)\.json"
    r"|chat_template\.jinja|merges\.txt|vocab\.txt|tokenizer\.model(?:\.v\d+)?|spiece\.model"
    r"|sentencepiece\.bpe\.model|\w+\.tiktoken"
)
"""Files of models that conversions copy and that nobody writes by hand."""

LITTER = re.compile(r"\.DS_Store|\._.+|Thumbs\.db")
"""What systems leave in directories that are looked at."""

COMPONENTS = re.compile(
    r"transformer(?:_\d)?|unet|vae|text_encoder(?:_\d)?|image_encoder|controlnet|prior|decoder|movq|scheduler"
    r"|tokenizer(?:_\d)?|feature_extractor|processor|safety_checker"
)
"""Sub-directories of image models."""


@dataclass(frozen=True, slots=True)
class Names:
    """The files that a conversion is going to write, by their paths in the output.

    Attributes:
        weights: those of tensors.
        beside: all others: configs, indexes, what is copied.
    """

    weights: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """An output's place, links followed where the directory itself stays.

    Attributes:
        partial: where the output is built.
        inside: the directory stays, and files are put into it one by one.
    """

    target: Path
    partial: Path
    inside: bool


@os_errors_as(OutputError, "written")
def place(target: Path) -> OutputPlace:
    """Where an output is built, and how it gets to `target`."""
    real = target
    if target.is_symlink() and target.is_dir() and (is_mount(target.resolve()) or is_empty(target)):
        real = target.resolve()
    if real.name in ("", ".."):
        real = real.resolve()
    if real.is_dir() and (is_mount(real) or _is_fixed(real) or (_holds_us(real) and is_empty(real))):
        return OutputPlace(real, real / INSIDE, inside=True)
    return OutputPlace(real, real.with_name(real.name + ".partial"), inside=False)


def is_single(target: Path) -> bool:
    """Whether the output is a file, by its name."""
    return file_formats.single(target.name) is not None


def is_empty(directory: Path) -> bool:
    """Whether nobody has put anything into a directory."""
    with os.scandir(directory) as entries:
        return all(entry.name in SPARED for entry in entries)


def is_mount(path: Path) -> bool:
    """Whether another file system, or another part of one, begins at a path."""
    if os.path.ismount(path):
        return True
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            points = {line.split(b" ", 5)[4] for line in file}
    except (OSError, IndexError):
        return False
    escaped = re.sub(
        rb"[ \t\n\\]", lambda sign: b"\\%03o" % ord(sign[0]), os.fsencode(os.path.realpath(path))
    )
    return escaped in points


@os_errors_as(OutputError, "written")
def check_target(target: Path, *, overwrite: bool, names: Names | None = None) -> None:
    """Refuses a target that must not be written, or not be replaced.

    Args:
        overwrite: an output that is there may be replaced.
        names: the files that will be written: an older output may hold them too.

    Raises:
        OutputError: it exists and `overwrite` is off; or it is no output of our own kind, or holds the
            working directory.
    """
    check_node(target)
    if not os.path.lexists(target):
        above = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
        if not above.is_dir():
            raise OutputError(f"{above} is not a directory: choose another --output")
        return
    single, directory = is_single(target), target.is_dir()
    if directory and not single and is_empty(target):
        return
    if directory:
        _check_directory(target, names or Names(), single=single)
    elif target.exists():
        _check_file(target, single=single)
    if not overwrite:
        raise OutputError(f"{target} exists already: choose another --output, or add --overwrite")


def _check_file(target: Path, *, single: bool) -> None:
    if not single:
        raise OutputError(
            f"{target} exists already and is a file, which no directory replaces: choose another --output"
        )
    if is_mount(target):
        raise OutputError(f"{target} is mounted by itself and cannot be replaced: choose another --output")
    if not holds_weights(target):
        raise OutputError(
            f"{target} exists already and is no weights file: it will not be overwritten; choose another"
            " --output"
        )


def _check_directory(target: Path, names: Names, *, single: bool) -> None:
    if single:
        raise OutputError(
            f"{target} exists already and is a directory, which no file replaces: choose another --output"
        )
    if _holds_us(target) and not is_mount(target):
        raise OutputError(f"{target} is or holds the working directory: it will not be overwritten")
    components = {name.rpartition("/")[0] for name in names.weights}
    weights = False
    for name in files_in(target, SPARED):
        if foreign := _foreign(target, name, names, components):
            raise OutputError(
                f"{target} holds {name:.120}, {foreign}: it will not be overwritten; move that elsewhere, or"
                " choose another --output"
            )
        weights = weights or name.endswith((*file_formats.suffixes(), ".distcp"))
    # an interrupted run may have left of its work, or of the old output, only the rest in place
    if not weights and not os.path.lexists(place(target).partial):
        raise OutputError(
            f"{target} holds no converted model: it will not be overwritten; choose another --output"
        )


def _foreign(directory: Path, name: str, names: Names, components: Collection[str]) -> str | None:
    """Why a file in a directory is not what a conversion writes or copies; None where it is."""
    if os.path.islink(directory / name):
        return "a link"
    if not os.path.isfile(directory / name):
        return "no regular file"
    above, _, last = name.rpartition("/")
    if name in names.beside or LITTER.fullmatch(last):
        return None
    known = not above or above in components or COMPONENTS.fullmatch(above)
    if name in names.weights or (known and WEIGHTS_NAME.fullmatch(last)):
        return None if holds_weights(directory / name) else "which is no weights file"
    if known and (SIDECAR_NAME.fullmatch(last) or INDEX_NAME.fullmatch(last)):
        return None
    return "which no conversion writes"


def holds_weights(path: Path) -> bool:
    """Whether a file's content, whatever its name, is weights as we write or read them; or nothing at all."""
    from wconv import formats
    from wconv.formats.format import START
    from wconv.stores.files import SourceFile

    file = SourceFile(str(path))
    start = bytes(file.read(0, min(file.size, START)))
    # a download that broke off is no less ours to replace
    if not start or registry.begins(start):
        return True
    try:
        return bool(formats.open_file(str(path)).tensors)
    except FormatError:
        return False


def _is_fixed(directory: Path) -> bool:
    """Whether we may write into a directory but not beside it, where another could take its place."""
    return os.access(directory, os.W_OK) and not os.access(directory.absolute().parent, os.W_OK)


def _holds_us(directory: Path) -> bool:
    return Path.cwd().resolve().is_relative_to(directory.resolve())
