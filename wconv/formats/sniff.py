"""What a file is that is not a checkpoint, by its first bytes, in words a person can act on."""

from __future__ import annotations

from collections.abc import Collection

from wconv.errors import FormatError
from wconv.formats.format import Candidate

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights: run `git lfs pull`"),
    (b"GGUF", "is a GGUF file: wconv reads the checkpoint that it was made from"),
    (b"ggml", "is a GGML file: wconv reads the checkpoint that it was made from"),
    (b"lmgg", "is a GGML file: wconv reads the checkpoint that it was made from"),
    (b"fmgg", "is a GGML file: wconv reads the checkpoint that it was made from"),
    (b"tjgg", "is a GGML file: wconv reads the checkpoint that it was made from"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file (Keras weights): save it from Keras as safetensors or .npz"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"BZh", "is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ\x00", "is compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive: unpack it first"),
    (b"Rar!", "is a RAR archive: unpack it first"),
    (b"PK\x05\x06", "is an empty zip archive"),
    (b"%PDF", "is a PDF document"),
    (b"\x89PNG", "is a PNG image"),
    (b"\xff\xd8\xff", "is a JPEG image"),
    (b"RIFF", "is a RIFF file (audio or video)"),
    (b"\x7fELF", "is a program or library, not weights"),
    (b"MZ", "is a Windows program, not weights"),
    (b"SQLite format 3\x00", "is an SQLite database"),
    (b"OBJECT_STORE", "is an orbax checkpoint part: open it with orbax"),
    (b"\x00\x05\x16\x07", "holds attributes that macOS kept of another file (AppleDouble): delete it"),
    (b"#!", "is a script, not weights"),
)
"""What starts in these ways, and what to do about it."""

PARTIAL = "looks like a download that went wrong: get it again"


def refuse(candidate: Candidate) -> FormatError:
    """The error that names what a file is which no reader of wconv takes."""
    source = candidate.source
    where = source.where
    if candidate.is_zip:
        return _refuse_archive(where, candidate.archive.entries)
    if source.size == 0:
        return FormatError(f"{where} is empty: download it again")
    start = source.read(0, min(4096, source.size))
    for signature, what in SIGNATURES:
        if start.startswith(signature):
            return FormatError(f"{where} {what}")
    if start[4:8] == b"TFL3":
        return FormatError(f"{where} is a TensorFlow Lite model")
    if start[:2] == b"\x08\x0a" or b"onnx" in start[:64].lower():
        return FormatError(
            f"{where} looks like an ONNX model: wconv reads the checkpoint that it was made from"
        )
    if not start.strip(b"\0"):
        return FormatError(f"{where} starts with zeros: it {PARTIAL}")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")):
        return FormatError(f"{where} is a saved HTML page, not weights: it {PARTIAL}")
    if text.startswith((b"{", b"[")):
        kind = (
            "a saved error message (JSON)"
            if b'"error' in text[:200] or b'"message' in text[:200]
            else "a JSON text"
        )
        return FormatError(
            f"{where} is {kind}, not weights: it {PARTIAL}"
            if "error" in kind
            else f"{where} is {kind}, not weights"
        )
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start[:512]):
        first = start[:60].decode("ascii").split("\n")[0].strip()
        return FormatError(f"{where} is a text file, not weights ({first!r})")
    return FormatError(f"{where} is of no kind that wconv knows: it starts with {start[:8].hex(' ')}")


def _refuse_archive(where: str, names: Collection[str]) -> FormatError:
    """The same for a zip archive, by the names of its members."""
    if any(name.startswith("MAR-INF/") for name in names):
        return FormatError(f"{where} is a TorchServe archive (.mar): unpack it and convert the weights in it")
    if any(name.endswith((".safetensors", ".pt", ".pth", ".bin", ".ckpt")) for name in names):
        return FormatError(f"{where} is a zip archive of checkpoints: unpack it first")
    if any(name.endswith(("config.json", "metadata.json")) for name in names) and "model.weights.h5" in names:
        return FormatError(f"{where} is a Keras archive: save it from Keras as safetensors or .npz")
    return FormatError(f"{where} is a zip archive without a PyTorch checkpoint (no data.pkl)")
