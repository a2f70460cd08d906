"""Writing behind: when pages are given back, when it is given up, and that every byte is right."""

import os
from pathlib import Path

import pytest

from wconv.writing import page_cache
from wconv.writing.page_cache import (
    DROP_AFTER,
    SLOW_WRITE,
    TOO_SLOW,
    TRIAL_WINDOWS,
    WINDOW,
    WORTH_IT,
    PageAdvice,
    WriteBehind,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")

STEP = 2 << 20


class Recorded(PageAdvice):
    """A file of pages that remembers the advice that it is given."""

    def __init__(self) -> None:
        self.fd = os.open(os.devnull, os.O_RDONLY)
        self.advice: list[tuple[int, int]] = []

    def drop(self, offset: int, count: int) -> None:
        self.advice.append((offset, count))


def write(thread: WriteBehind, pages: PageAdvice, nbytes: int, cost: float, start: int = 0) -> None:
    for offset in range(start, start + nbytes, STEP):
        thread.wrote(pages, offset, STEP, cost * STEP)


def test_cheap_writes_are_left_to_the_system() -> None:
    thread, pages = WriteBehind(), Recorded()
    write(thread, pages, 8 * WINDOW, SLOW_WRITE / 2)
    assert not thread.active
    assert pages.advice == []


def test_dear_writes_are_sent_to_the_disk_and_their_pages_taken_back_later() -> None:
    thread, pages = WriteBehind(), Recorded()
    write(thread, pages, WINDOW, SLOW_WRITE * 2)
    assert thread.active
    early, late = DROP_AFTER
    write(thread, pages, (late + 3) * STEP, SLOW_WRITE * 2, WINDOW)
    sent = [(WINDOW + at * STEP, STEP) for at in range(late + 3)]
    assert list(dict.fromkeys(pages.advice)) == sent
    assert [pages.advice.count(one) for one in sent] == [3] * 3 + [2] * (late - early) + [1] * early


def test_a_slow_disk_is_left_alone_soon_and_for_long() -> None:
    thread, pages = WriteBehind(), Recorded()
    write(thread, pages, WINDOW, SLOW_WRITE * 2)
    write(thread, pages, 2 * WINDOW, TOO_SLOW * 1.5)
    assert not thread.active
    advised = len(pages.advice)
    write(thread, pages, 32 * WINDOW, SLOW_WRITE * 2)
    assert len(pages.advice) == advised
    write(thread, pages, WINDOW, SLOW_WRITE * 2)
    assert thread.active
    write(thread, pages, 2 * WINDOW, TOO_SLOW * 1.5)
    write(thread, pages, 512 * WINDOW, SLOW_WRITE * 2)
    assert not thread.active


def test_what_costs_more_than_plain_writes_is_given_up_after_its_second_trial() -> None:
    thread, pages = WriteBehind(), Recorded()
    write(thread, pages, WINDOW, SLOW_WRITE * 2)
    write(thread, pages, TRIAL_WINDOWS * WINDOW, WORTH_IT * 1.5, WINDOW)
    assert thread.active
    write(thread, pages, TRIAL_WINDOWS * WINDOW, WORTH_IT * 1.5, (1 + TRIAL_WINDOWS) * WINDOW)
    assert not thread.active


def test_one_slow_moment_does_not_end_it() -> None:
    thread, pages = WriteBehind(), Recorded()
    write(thread, pages, (1 + TRIAL_WINDOWS) * WINDOW, SLOW_WRITE * 2)
    write(thread, pages, WINDOW, TOO_SLOW * 1.2)
    write(thread, pages, (TRIAL_WINDOWS - 1) * WINDOW, SLOW_WRITE * 2)
    assert thread.active


def test_it_stays_where_plain_writes_cost_more_still() -> None:
    thread, pages = WriteBehind(), Recorded()
    write(thread, pages, WINDOW, WORTH_IT * 2)
    write(thread, pages, 4 * TRIAL_WINDOWS * WINDOW, WORTH_IT * 1.5, WINDOW)
    assert thread.active


def test_advice_changes_no_byte_and_outlives_the_files_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(3 * 4096 + 100)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    pages = PageAdvice(fd)
    os.pwrite(fd, data, 0)
    os.close(fd)
    pages.drop(0, 4096 + 10)
    pages.drop(0, len(data))
    os.sync()
    pages.drop(0, len(data))
    assert path.read_bytes() == data


def test_advice_that_is_not_taken_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: int) -> None:
        raise OSError(38, "Function not implemented")

    with (tmp_path / "file").open("wb") as file:
        pages = PageAdvice(file.fileno())
        monkeypatch.setattr(os, "posix_fadvise", refuse)
        pages.drop(0, 4096)


def test_the_last_reference_closes_the_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        pages = PageAdvice(file.fileno())
        fd = pages.fd
        os.fstat(fd)
        del pages
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_every_byte_is_right_when_all_is_written_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    import wconv

    monkeypatch.setattr(page_cache, "SLOW_WRITE", 0.0)
    monkeypatch.setattr(page_cache, "WORTH_IT", 1e9)
    monkeypatch.setattr(page_cache, "TOO_SLOW", 1e9)
    monkeypatch.setattr(page_cache, "WINDOW", 1 << 20)
    monkeypatch.setattr(page_cache, "DROP_AFTER", (2, 4))
    rng = np.random.default_rng(0)
    tensors = {f"weight.{n}": rng.standard_normal((1024, 1031)).astype(np.float32) for n in range(16)}
    wconv.save(tensors, tmp_path / "model.safetensors")
    wconv.convert(tmp_path / "model.safetensors", tmp_path / "out.safetensors", dtype="float16")
    written = wconv.load(tmp_path / "out.safetensors")
    assert all(np.array_equal(written[name], one.astype(np.float16)) for name, one in tensors.items())
