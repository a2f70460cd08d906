"""The page of `inspect --html` in a real browser: by keyboard, with hostile names, at 100,000 tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import run
from tests.making import raw_safetensors
from tests.oracle.browser.chromium import Browser, browser

pytestmark = pytest.mark.oracle

MODEL = Path(__file__).parents[3] / "fixtures" / "qwen2_5_vl"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


def made(source: Path, to: Path, *words: str) -> Path:
    done = run("inspect", source, "--html", to, *words)
    assert done.exit_code == 0, done.output
    return to


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(MODEL, tmp_path_factory.mktemp("page") / "m.html", "--stats")


def seek(tab: Browser, words: str) -> None:
    """Filters from the keyboard, and goes to the first row."""
    tab.press("/")
    assert tab.run("document.activeElement.id") == "filter"
    tab.type(words)
    tab.press("Enter")
    tab.until("document.activeElement.id === 'tree' && document.getElementById('found').textContent || ''")


def text(tab: Browser, selector: str) -> str:
    return str(tab.run(f"(document.querySelector({selector!r}) || {{}}).textContent || ''"))


def test_it_is_complete_and_nothing_complains(tab: Browser, page: Path) -> None:
    tab.show(page)
    assert tab.run("document.body.dataset.ready") == "yes"
    assert tab.requests() == [page.resolve().as_uri()]
    assert tab.complaints() == []
    assert text(tab, "#title") == "qwen2_5_vl"
    assert "57 tensors" in text(tab, "#summary")
    assert "bfloat16 100 %" in text(tab, "#dtypes")
    assert "loads it once converted" in text(tab, ".loaders")
    assert "4 bits in groups of 64" in text(tab, ".recipes")


def test_a_tensors_way_is_drawn(tab: Browser, page: Path) -> None:
    tab.show(page)
    seek(tab, "patch_embed")
    tab.press("Enter")
    assert text(tab, "#detail h2") == "visual.patch_embed.proj.weight"
    way = text(tab, ".way")
    assert "bytes 144 – 75,408" in way
    assert "model-00003-of-00003.safetensors" in way
    assert "rename visual.** → vision_tower.**" in way
    assert "vision_tower.patch_embed.proj.weight" in way
    title = text(tab, ".transposition title")
    assert title == "axes 0, 1, 2, 3, 4 become 0, 2, 3, 4, 1"
    assert tab.run("document.querySelectorAll('.transposition path').length") == 5
    assert tab.run("document.querySelectorAll('.histogram rect').length") > 10


def test_all_is_reached_from_the_keyboard(tab: Browser, page: Path) -> None:
    tab.show(page)
    seek(tab, "layers mlp.up_proj")
    assert text(tab, ".row.cursor .label").endswith("×2")
    tab.press("ArrowDown")
    tab.press("Enter")
    assert text(tab, "#detail h2") == "model.layers.0.mlp.up_proj.weight"
    tab.press("]")
    assert text(tab, "#detail h2") == "model.layers.1.mlp.up_proj.weight"
    tab.press("ArrowLeft")
    tab.press("ArrowLeft")
    assert tab.run("document.querySelectorAll('.row').length") == 1
    tab.press("Escape")
    assert "What loads it" in text(tab, "#detail")
    assert tab.run("document.getElementById('filter').value") == ""
    tab.press("m")
    tab.press("Enter")
    assert tab.run("document.querySelectorAll('#crumbs button').length") == 2
    tab.press("?")
    assert tab.run("document.getElementById('help').open")
    assert tab.complaints() == []


def test_blocks_are_folded_and_unfolded(tab: Browser, page: Path) -> None:
    tab.show(page)
    folded = tab.run("document.getElementById('rows').style.height")
    tab.press("f")
    assert tab.run("document.getElementById('rows').style.height") != folded
    assert tab.run("document.querySelectorAll('.times').length") == 0


@pytest.mark.parametrize("word", ["dtype:bf16", "is:transposed", "-layers -visual", "layers.*.down"])
def test_words_of_the_filter(tab: Browser, page: Path, word: str) -> None:
    tab.show(page)
    seek(tab, word)
    counts = {"dtype:bf16": 57, "is:transposed": 1, "-layers -visual": 3, "layers.*.down": 2}
    assert text(tab, "#found") == f"{counts[word]} of 57"


def test_it_is_light_or_dark_and_fits_a_narrow_window(tab: Browser, page: Path) -> None:
    colours = []
    for dark in (False, True):
        tab.show(page, dark=dark)
        colours.append(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    tab.press("d")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == colours[0]
    for width in (360, 700, 1000):
        tab.size(width, 800)
        assert tab.until("document.documentElement.scrollWidth") <= width


HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=document.title='run'>",
    "__proto__.constructor",
    "a\u202egnp.weight",
    "{{data}}",
    "x." * 300,
    "\u05d0\u05d1.weight",
)


def test_hostile_names_stay_texts(tab: Browser, tmp_path: Path) -> None:
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]}
        for at, name in enumerate(HOSTILE)
    }
    header["__metadata__"] = dict.fromkeys(HOSTILE, HOSTILE[0])  # type: ignore[assignment]
    source = raw_safetensors(tmp_path / "<b>m.safetensors", header, b"\0" * 4 * len(HOSTILE))
    page = made(source, tmp_path / "m.html")
    tab.show(page)
    for words in ("script", "img", "proto", "gnp", "data", "x.x"):
        tab.press("Escape")
        seek(tab, words)
        for _ in range(50):
            if tab.run("document.body.classList.contains('has-detail')"):
                break
            tab.press("Enter")
            tab.press("ArrowDown")
    assert tab.run("document.title") == "<b>m.safetensors · wconv inspect"
    assert tab.run("document.querySelectorAll('img, b b, #detail script, #tree script').length") == 0
    assert tab.requests() == [page.resolve().as_uri()]
    assert tab.complaints() == []
    tab.press("Escape")
    seek(tab, "gnp")
    assert "\\u{202e}" in text(tab, "#tree")
    assert "\u202e" not in tab.run(
        "document.body.textContent.replace(document.getElementById('data').text, '')"
    )


def test_a_hundred_thousand_tensors(tab: Browser, tmp_path: Path) -> None:
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
        for layer in range(50)
        for expert in range(667)
        for part in ("gate", "up", "down")
    ]
    header = {
        name: {"dtype": "BF16", "shape": [1, 2], "data_offsets": [4 * at, 4 * at + 4]}
        for at, name in enumerate(names)
    }
    page = made(
        raw_safetensors(tmp_path / "m.safetensors", header, b"\0" * 4 * len(names)), tmp_path / "m.html"
    )
    assert page.stat().st_size < 5_000_000
    tab.show(page)
    assert "100,050 tensors" in text(tab, "#summary")
    assert tab.run("document.querySelectorAll('*').length") < 1500
    seek(tab, "experts.66")
    spent = tab.run(
        "(() => { const box = document.getElementById('filter'), began = performance.now();"
        " box.value = 'layers.7. expert up'; box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}));"
        " return performance.now() - began; })()"
    )
    assert text(tab, "#found") == "667 of 100,050"
    # 60 ms on a quiet machine
    assert spent < 2000
    tab.press("Escape")
    tab.press("f")
    tab.run("document.getElementById('tree').focus()")
    for _ in range(6):
        tab.press("End")
        tab.press("ArrowRight")
    assert tab.run("document.querySelectorAll('*').length") < 1500
    assert tab.complaints() == []
