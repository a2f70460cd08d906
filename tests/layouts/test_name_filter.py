"""`--include` and `--exclude`: the answers of Python's `re`, in a time that no expression can stretch."""

from __future__ import annotations

import contextlib
import random
import re
import time
import warnings

import pytest

from wconv.errors import WconvError
from wconv.layouts.name_filter import NameFilter

NAMES = (
    "",
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.self_attn.q_proj.lora_A.weight",
    "model.layers.11.mlp.experts.3.down_proj.weight_scale_inv",
    "visual.blocks.1.attn.qkv.bias",
    "Model.LAYERS.2",
    "lm_head.weight\n",
    "a\nb",
    "ärger.größe.weight",
    "nul\0inside",
    "aaaaaaaa",
    "aab",
    "ab" * 9,
)

ORDINARY = (
    r"layers\.(0|1)\..*",
    r"^model\..*(q|k|v)_proj",
    r".*lora.*weight",
    r"^(?!.*lora)",
    r"^(?!visual).*weight$",
    r"(?<=layers\.)\d+",
    r"(?<!mlp)\.experts",
    r"(?i)^model\.layers",
    r"(?i:LM_HEAD)\.weight$",
    r"^$",
    r"\bq_proj\b",
    r"\Bproj",
    r"[^.]+\.bias\Z",
    r"layers\.\d{1,2}\.",
    r"layers\.\d{2,}\.",
    r"(?:ab){3,5}$",
    r"^(?:ab)*?$",
    r"gr[öo]ße",
    r"(?a)\bgr\w+",
    r"(?m)^b$",
    r"(?s)a.b",
    r"(?x) a  a  b  # a comment",
    r"nul.inside",
    r"",
    r"x|",
    r"embed|lm_head",
    r"[[a]",
    r"(?P<one>a)(?:b|c)?",
)


def reference(text: str, names: tuple[str, ...]) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name for name in names if re.search(text, name)}


@pytest.mark.parametrize("text", ORDINARY)
def test_finds_what_re_finds(text: str) -> None:
    assert NameFilter(text, "--include").matching(NAMES) == reference(text, NAMES)


def expression(random_: random.Random, depth: int = 0) -> str:
    """A random expression over a few letters."""
    leaves = ["a", "b", r"\.", ".", "[ab]", "[^a]", r"\d", r"\w", "^", "$", r"\b", r"\B", r"\Z", "1"]
    if depth > 3:
        return random_.choice(leaves)
    kind = random_.randrange(8)
    inner = lambda: expression(random_, depth + 1)  # noqa: E731
    if kind < 2:
        return random_.choice(leaves)
    if kind < 4:
        return inner() + inner()
    if kind == 4:
        return f"(?:{inner()}|{inner()})"
    if kind == 5:
        return f"(?:{inner()}){random_.choice(['*', '+', '?', '*?', '+?', '{2}', '{1,3}', '{2,}'])}"
    if kind == 6:
        return f"(?{random_.choice('=!')}{inner()})"
    return f"({inner()})"


def test_agrees_with_re_on_random_expressions() -> None:
    random_ = random.Random(7)
    made = ("".join(random_.choices("ab.1", k=random_.randrange(1, 9))) for _ in range(40))
    names = tuple(dict.fromkeys((*made, "a\n", "b\nb")))
    for _ in range(1500):
        text = expression(random_)
        assert NameFilter(text, "--include").matching(names) == reference(text, names), text


HOSTILE = (
    "(a+)+$",
    "(a*)*b",
    "(a|a)*b",
    "(a|aa)+$b",
    r"(\w+\d*)+:",
    "(a{1,30}){1,30}b",
    ".*.*.*.*.*.*.*.*b",
    "(((((a*b?)*b?)*b?)*b?)*b?)*c",
    "(.*a){25}b",
    "(?=(a+)+$)b",
    "(ab)*c",
    "((ab)*(ba)*)*c",
    "(((a?){30}){30})b",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_expression_takes_long(text: str) -> None:
    names = ["a" * 4000, "ab" * 2000, "a1" * 2000, ("ab" * 20 + "ba") * 90]
    began = time.process_time()
    with contextlib.suppress(WconvError):  # "takes too long"
        NameFilter(text, "--include").matching(names)
    assert time.process_time() - began < 2


def test_random_expressions_take_no_longer_on_long_names() -> None:
    random_ = random.Random(11)
    names = ["a" * 4000, "ab" * 2000, "a." * 2000, "1b" * 2000]
    for _ in range(60):
        text = "".join(expression(random_) for _ in range(3))
        began = time.process_time()
        with contextlib.suppress(WconvError):  # "takes too long"
            NameFilter(text, "--include").matching(names)
        assert time.process_time() - began < 2, text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(a", "is no regular expression"),
        ("(" * 500 + "a" + ")" * 500, "too many groups"),
        ("(?:" * 60 + "a" + ")*" * 60, "too many groups"),
        ("a{99999999999999}", "is no regular expression: the repetition number is too large"),
        ("a{5000}", "repeats a part 5,000 times"),
        ("((a{90}){90}){90}", "repeats a part 8,100 times"),
        (r"(a)\1", "refers back to a group"),
        ("(a)(?(1)b|c)", "depends on whether a group matched"),
        ("(?>a+)b", "has an atomic group"),
        ("a++b", "has a possessive repeat"),
        ("a" * 30_000, "30,000 characters"),
    ],
)
def test_refuses_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(WconvError, match=r"^--include ") as caught:
        NameFilter(text, "--include")
    assert why in str(caught.value)


def test_many_names_take_no_longer_than_they_may() -> None:
    names = [f"model.layers.{at // 7}.self_attn.{at % 7}_proj.weight" for at in range(50_000)]
    began = time.process_time()
    found = NameFilter(r"layers\.(0|1|2)\..*_proj", "--include").matching(names)
    assert len(found) == 21
    assert time.process_time() - began < 1
