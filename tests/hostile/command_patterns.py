"""Expressions and rules that a matcher, a parser or a loop never comes back from."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.command_making import file, option, rules, rules_device, rules_pipe
from tests.hostile.commands import Command, model, tensors


def expressions() -> Iterator[Command]:
    """Regular expressions that a backtracking matcher never comes back from."""
    never = {
        "nested": "(a+)+$",
        "nested-star": "(a*)*b",
        "alternatives": "(a|a)*b",
        "overlapping": "(a|aa)+$b",
        "digits": r"(\w+\d*)+:",
        "counted": "(a{1,30}){1,30}b",
        "in-turn": ".*.*.*.*.*.*.*.*b\\Z\\Zx",
        "deep-stars": "(((((a*b?)*b?)*b?)*b?)*b?)*c",
    }
    long = {"a" * 4000: (2,), "w": (2,)}
    for name, text in never.items():
        yield Command(f"include-{name}", option("--include", text, shapes=long), "either")
        yield Command(f"exclude-{name}", option("--exclude", text, shapes=long), "either")
    wrong = {
        "groups-500": "(" * 500 + "a" + ")" * 500,
        "groups-100000": "(" * 100_000,
        "count": "a{99999999999999}",
        "counts-nested": "(((((a{900}){900}){900}){900}){900})",
        "backreference": r"(a+)\1+$",
        "open": "(a",
        "long": "(a|b)" * 10_000,
        "long-open": "[" + "a" * 400_000,
    }
    for name, text in wrong.items():
        yield Command(f"include-{name}", option("--include", text), says="--include")
        yield Command(f"exclude-{name}", option("--exclude", text), says="--exclude")
        yield Command(f"q-rule-{name}", option("-q", "--q-rule", f"{text}=4"), says="the pattern of a")


def patterns() -> Iterator[Command]:
    """Rules files whose patterns, keys or lists are beyond all measure."""
    words = "(a|b)" * 40
    yield Command("names-words", rules(f'names = ["{words}"]\nrules = []\n', {"z": (2,)}))
    yield Command("rename-words", rules(f'{{ rename = "{words}", to = "{words}" }}'), "either")
    many = "**.a" * 40
    dotted = ".a" * 1500 + ".b"
    yield Command("names-stars", rules(f'names = ["{many}"]\nrules = []\n', {dotted: (2,)}))
    yield Command(
        "rename-stars", rules(f'{{ rename = "{many}", to = "x.{many}" }}', {dotted: (2,)}), "either"
    )
    hashes = "#*" * 40 + "x"
    yield Command(
        "rename-hashes", rules(f'{{ rename = "{hashes}", to = "{hashes}y" }}', {"1" * 3000: (2,)}), "either"
    )
    copies = "\n".join(f'{{ copy = "a", to = "c{at}" }},' for at in range(20_000))
    yield Command("copies", rules(copies))
    chained = "\n".join(f'{{ rename = "n{at}", to = "n{at + 1}" }},' for at in range(5000))
    yield Command("renames-chained", rules(chained, {"n0": (2,), **{f"m{at}": (2,) for at in range(2000)}}))
    yield Command("key-dotted", rules("rules = []\n" + ".".join("a" * 20_000) + " = 1\n"))
    yield Command("key-dotted-quoted", rules("rules = []\n" + ".".join(['"a"'] * 20_000) + " = 1\n"))
    yield Command("key-dotted-spaced", rules("rules = []\n" + " . ".join("a" * 20_000) + " = 1\n"))
    yield Command("key-dotted-table", rules("rules = []\n[" + ".".join("a" * 20_000) + "]\n"))
    yield Command("toml-deep", rules("rules = []\nnames = " + "[" * 5000 + "]" * 5000 + "\n"))
    yield Command("toml-tables", rules("rules = []\n" + "".join(f"[a.b{at}]\n" for at in range(50_000))))
    yield Command("toml-deep-tables", rules("rules = []\nform = " + "{a=" * 500 + "1" + "}" * 500))
    yield Command("toml-keys", rules("rules = []\n" + "".join(f"k{at} = 1\n" for at in range(90_000))))
    yield Command("toml-key-long", rules("rules = []\n" + "k" * 400_000 + " = 1\n"))
    yield Command("toml-quotes", rules("rules = []\nnames = [" + "'''a" * 100_000))
    setting = " - ".join("n" * 5000)
    yield Command(
        "setting-minus", rules(f'{{ stack = "b.{{e}}.c", to = "c", count = "{setting}" }}', config={"n": 1})
    )
    yield Command(
        "setting-dotted", rules(f'{{ stack = "b.{{e}}.c", to = "c", count = "{".".join("n" * 9000)}" }}')
    )
    yield Command(
        "pattern-long", rules(f'{{ rename = "{"a" * 400_000}", to = "{"b" * 400_000}" }}'), "either"
    )
    yield Command("split-into-many", rules('{ split = "a", axis = 0, into = [' + '"c",' * 100_000 + "] }"))
    yield Command(
        "form-braces",
        rules('rules = []\nform = { shard = "{number}.safetensors", max_shard_size = 0 }\n'),
        "either",
    )
    casts = 'rules = []\ncasts = { "float32" = "nothing" }\n'
    yield Command("casts-unknown", rules(casts), "either")
    yield Command("rules-pipe", rules_pipe, says="rules.toml")
    yield Command("rules-device", rules_device, says="rules.toml")
    yield Command(
        "rules-directory",
        lambda directory: [*model({"model_type": "mine"})(directory), "--rules", str(directory)],
    )
    yield Command("key-option", file(tensors({"w": (2,)}), "--key", ".".join("a" * 20_000)))
    yield Command("rules-long-unknown", lambda directory: ["rules", "m" * 100_000])


def commands() -> Iterator[Command]:
    for room in (expressions, patterns):
        yield from room()
