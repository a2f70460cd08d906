"""Files on servers are read by range, whatever these do. Covers `stores/http.py`,
`stores/remote.py`, `stores/stopping.py`."""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving import Answer, Served, ranges, serving
from wconv.checkpoints.locate import locate
from wconv.errors import FormatError
from wconv.stores import files, http, patience, remote, spans, stand_ins, stopping

DATA = bytes(range(251)) * 40_000
"""10 MB that no shift leaves the same."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    monkeypatch.setattr(patience, "TIMEOUT", 20.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)
    remote.reset()


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        served.files["/dir/x.bin"] = DATA
        yield served


def opened(served: Served, path: str = "/dir/x.bin") -> files.SourcePath:
    return files.stamped(str(locate(f"{served.url}{path}")))


def whole(path: str) -> bytes:
    file = files.source(path)
    return b"".join(bytes(file.read(at, min(700_001, file.size - at))) for at in range(0, file.size, 700_001))


def test_any_range_is_that_of_the_file(server: Served) -> None:
    path = opened(server)
    assert files.source(path).size == len(DATA)
    for start, count in [(0, 8), (8, 100), (5_000_000, 3), (len(DATA) - 5, 5), (65_530, 5_000_000), (9, 0)]:
        assert bytes(files.source(path).read(start, count)) == DATA[start : start + count]
    with pytest.raises(FormatError, match="truncated"):
        files.source(path).read(len(DATA) - 5, 6)


def test_a_stream_is_fetched_once_and_ahead_of_its_reader(server: Served) -> None:
    assert whole(opened(server)) == DATA
    assert server.sent == len(DATA)
    assert max(last - first for first, last in ranges(server)) == spans.SPAN


def test_a_few_bytes_cost_a_few_kilobytes(server: Served) -> None:
    files.source(opened(server)).read(0, 1000)
    assert server.sent == spans.FIRST


def test_threads_share_what_is_fetched(server: Served) -> None:
    path, step = opened(server), 100_003
    with ThreadPoolExecutor(8) as pool:
        parts = list(
            pool.map(
                lambda at: bytes(files.source(path).read(at, min(step, len(DATA) - at))),
                range(0, len(DATA), step),
            )
        )
    assert b"".join(parts) == DATA
    assert server.sent == len(DATA)


def test_memory_is_bounded(server: Served) -> None:
    server.files["/large"] = DATA * 5
    path = opened(server, "/large")
    file = files.source(path)
    most = 0
    for at in range(0, file.size, 1 << 20):
        file.read(at, min(1 << 20, file.size - at))
        most = max(most, remote._cache.nbytes())
    assert most <= spans.CACHED + spans.BEYOND
    assert server.sent == len(DATA) * 5


def test_answers_that_are_cut_are_continued(server: Served) -> None:
    server.cut = 300_000
    assert whole(opened(server)) == DATA


def test_a_server_that_is_busy_is_asked_again(server: Served) -> None:
    answers = iter([(503, {}), (429, {"Retry-After": "1"}), (500, {})] * 3)
    seen: list[str] = []

    def refused(path: str, headers: dict[str, str]) -> Answer | None:
        seen.append(path)
        return next(answers) if len(seen) % 2 and len(seen) < 18 else None

    server.refused = refused
    assert whole(opened(server)) == DATA


def test_a_server_that_is_silent_is_given_up(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TIMEOUT", 0.05)
    monkeypatch.setattr(patience, "ATTEMPTS", 2)
    server.refused = lambda path, headers: time.sleep(0.3)  # type: ignore[func-returns-value]
    with pytest.raises(FormatError, match="nothing came within"):
        opened(server)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "asks for a login"),
        (403, "does not allow it"),
        (404, "nothing at that address"),
        (429, "too often"),
        (500, "answers 500"),
    ],
)
def test_refusals_are_one_line_without_secrets(server: Served, status: int, said: str) -> None:
    server.refused = lambda path, headers: (status, {})
    url = server.url.replace("://", "://me:password@") + "/dir/x.bin?signature=secret"
    with pytest.raises(FormatError, match=said) as caught:
        locate(url)
    text = str(caught.value)
    assert "\n" not in text
    assert f"{server.url}/dir/x.bin" in text
    assert "password" not in text
    assert "secret" not in text
    assert len(server.asked) == (patience.ATTEMPTS if status in patience.BUSY else 1)


def test_a_file_that_changes_is_an_error(server: Served) -> None:
    path = opened(server)
    server.files["/dir/x.bin"] = DATA[::-1]
    with pytest.raises(FormatError, match="changed since"):
        whole(path)


def test_a_file_that_changes_its_size_is_an_error(server: Served) -> None:
    server.etags["/dir/x.bin"] = '"always the same"'
    path = opened(server)
    server.files["/dir/x.bin"] = DATA[:-1]
    with pytest.raises(FormatError, match="changed since"):
        whole(path)


def test_servers_without_ranges_are_refused_but_for_small_files(server: Served) -> None:
    server.ranges = False
    with pytest.raises(FormatError, match="sends files whole; download it first"):
        opened(server)
    server.files["/small"] = DATA[:200_000]
    assert whole(opened(server, "/small")) == DATA[:200_000]


def test_a_range_that_was_not_asked_for_is_refused(server: Served) -> None:
    path = opened(server)
    before = http.exchange

    def other(url: str, headers: dict[str, str], secret: object) -> object:
        return before(url, {"Range": "bytes=7-9"}, secret)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "exchange", other)
        with pytest.raises(FormatError, match="another range"):
            files.source(path).read(1_000_000, 3)


def test_redirects_are_followed_once_and_passwords_stay_where_they_belong(server: Served) -> None:
    with serving() as store:
        store.files["/blob"] = DATA
        server.redirects["/dir/x.bin"] = f"{store.url}/blob?signature=1"
        path = files.stamped(str(locate(server.url.replace("://", "://me:password@") + "/dir/x.bin")))
        assert whole(path) == DATA
        assert all("authorization" in headers for _, headers in server.asked)
        assert not any("authorization" in headers for _, headers in store.asked)
        assert len(server.asked) <= 2 + spans.AHEAD


def test_an_address_that_runs_out_is_asked_for_again(server: Served) -> None:
    with serving() as store:
        store.files["/blob"] = DATA
        server.redirects["/dir/x.bin"] = f"{store.url}/blob?signature=1"
        store.refused = lambda path, headers: (403, {}) if store.sent > 3_000_000 and "1" in path else None
        path = opened(server)
        files.source(path).read(0, 4_000_000)
        store.refused = lambda path, headers: None
        server.redirects["/dir/x.bin"] = f"{store.url}/blob?signature=2"
        assert whole(path) == DATA


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://host/x", "/dir/x.bin"])
def test_redirects_lead_to_servers_alone_and_end(server: Served, place: str) -> None:
    server.redirects["/dir/x.bin"] = place
    with pytest.raises(FormatError, match="redirects"):
        opened(server)


def test_a_path_crosses_processes_with_what_it_stands_for(server: Served) -> None:
    path = pickle.loads(pickle.dumps(opened(server)))
    stand_ins._known.clear()
    assert bytes(files.source(path).read(1000, 10)) == DATA[1000:1010]


def test_an_empty_file_and_one_that_is_not_there_are_named(server: Served) -> None:
    server.files["/empty"] = b""
    with pytest.raises(FormatError, match="is empty"):
        opened(server, "/empty")
    with pytest.raises(FormatError, match="no address"):
        locate("https://")
    with pytest.raises(FormatError, match="names no file"):
        locate(server.url + "/")


def test_an_address_may_have_spaces_and_accents(server: Served) -> None:
    server.files["/a é/x.bin"] = DATA[:1000]
    assert whole(opened(server, "/a é/x.bin")) == whole(opened(server, "/a%20%C3%A9/x.bin")) == DATA[:1000]


def test_who_waits_can_be_told_to_stop(server: Served) -> None:
    path, stop = opened(server), threading.Event()
    go_on = threading.Event()
    server.refused = lambda path, headers: go_on.wait(20) and None
    errors: list[FormatError] = []

    def read() -> None:
        stopping.stops_with(stop)
        try:
            files.source(path).read(1_000_000, 10)
        except FormatError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    stop.set()
    thread.join(10)
    go_on.set()
    assert "not wanted any more" in str(errors[0])


def test_no_server_is_one_line() -> None:
    with serving() as served:
        url = served.url
    with pytest.raises(FormatError, match=re.escape(url) + "/x.bin cannot be read: Connection refused"):
        locate(url + "/x.bin")


def test_a_proxy_is_asked_for_the_address(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("://", "://me:password@"))
    monkeypatch.setenv("no_proxy", "")
    path = files.stamped(str(locate("http://models.example/dir/x.bin")))
    assert bytes(files.source(path).read(77, 5)) == DATA[77:82]
    assert server.asked[0][0] == "http://models.example:80/dir/x.bin"
    assert server.asked[0][1]["proxy-authorization"].startswith("Basic ")


def test_copies_of_local_files_are_theirs(tmp_path: Path, server: Served) -> None:
    files.copy(str(opened(server)), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA
