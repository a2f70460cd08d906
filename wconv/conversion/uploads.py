"""A result that goes elsewhere once it is complete: its files, the weights first, and a model card."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wconv.checkpoints.hints import HUB_ID
from wconv.checkpoints.locate import HF
from wconv.consumers.mlx.card import make_card
from wconv.conversion.report import Report
from wconv.errors import OutputError, called
from wconv.stores import uploads
from wconv.stores.uploads import Destination
from wconv.wording import gigabytes, plural

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Upload:
    """Where a result goes.

    Attributes:
        target: takes the files.
        repository: "org/name" of the hub, for which a card is made; "" elsewhere.
        moves: whether files go from here once they are there.
    """

    target: Destination
    repository: str = ""
    moves: bool = False

    def carry_out(self, report: Report) -> list[str]:
        """Uploads a result, the weights first; lines that say so. Raises `OutputError`."""
        output, count, nbytes = report.output, 0, 0
        for path in _files(output):
            name = path.relative_to(output).as_posix() if path != output else path.name
            if name == CARD and self.repository:
                continue
            size = path.stat().st_size
            self.target.put(str(path), name)
            count, nbytes = count + 1, nbytes + size
            if self.moves:
                path.unlink()
        if self.repository:
            self._put_card(report)
            count += 1
        return [f"{self.target.name}: {plural(count, 'file')}, {gigabytes(nbytes)} uploaded"]

    def _put_card(self, report: Report) -> None:
        place = report.output / CARD
        before = ""
        if place.is_file():
            before = place.read_text(encoding="utf-8", errors="replace")
        command = report.command.replace(str(report.output), self.repository)
        done = [called(line).replace(str(report.output), self.repository) for line in report.lines()]
        text = make_card(self.repository, _base(called(str(report.source))), done, command, before)
        if report.output.is_dir():
            place.write_text(text, encoding="utf-8")
            self.target.put(str(place), CARD)
            return
        with tempfile.TemporaryDirectory(prefix="wconv-") as directory:
            place = Path(directory, CARD)
            place.write_text(text, encoding="utf-8")
            self.target.put(str(place), CARD)


def to_repository(name: str, token: str | None) -> Upload:
    """A repository of the hub, which is made at once, so that a refusal comes before the work.

    Raises:
        OutputError: the name is none, or the hub does not let it be made.
    """
    if not HUB_ID.fullmatch(name):
        raise OutputError(f"--upload-repo {name!r:.80} is not org/name")
    return Upload(uploads.open_repository(name, token), repository=name)


def to_store(url: str, *, overwrite: bool) -> Upload:
    """A folder of an object store, or the place of one file. Raises `OutputError`: something is there."""
    is_file = bool(Path(url.rpartition("/")[2]).suffix in (".safetensors", ".pt", ".bin", ".npz"))
    return Upload(uploads.open_folder(url, overwrite=overwrite, is_file=is_file), moves=True)


def _files(output: Path) -> Iterator[Path]:
    """Files of a result: weights, then the others."""
    if not output.is_dir():
        yield output
        return
    found = sorted(path for path in output.rglob("*") if path.is_file())
    weights = [path for path in found if path.suffix == ".safetensors"]
    yield from weights
    yield from (path for path in found if path not in weights)


def _base(source: str) -> str | None:
    """The model of the hub that a source is, as messages name it; None where it is a path."""
    named = HF.fullmatch(source)
    if named:
        return named[1]
    return source if HUB_ID.fullmatch(source) and not Path(source).exists() else None
