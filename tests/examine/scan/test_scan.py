"""What would run is found, wherever it hides; what makes data only is not alarmed at.

Covers `examine/scan/`, `cli/scan.py`.
"""

from __future__ import annotations

import collections
import gzip
import io
import json
import os
import pickle
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import wconv
from tests.examine.scan import pickles
from tests.examine.scan.pickles import Calls
from wconv.cli.program import main
from wconv.examine.scan.judgement import level_of
from wconv.examine.scan.scan import disassembled, scan
from wconv.examine.scan.walk import Call

FIXTURES = Path(__file__).parents[3] / "fixtures"


def dangers(path: Path) -> list[str]:
    return [one.text for one in scan(path).findings if one.level == "danger"]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "program",
    [
        pickles.stack_global("os", "system", "x"),
        pickles.old("os", "system", "x"),
        pickles.inst("os", "system", "x"),
        pickles.obj("os", "system", "x"),
        pickles.by_memo("os", "system"),
        pickles.with_lying_frame(),
        pickles.plain([1, Calls(os.system, "x")]),
        pickles.plain({"a": Calls(eval, "1")}, 0),
        pickles.plain(Calls(getattr, Calls(__import__, "os"), "system"), 2),
        pickles.stack_global("os", "system", "x")[:-1],
        pickles.stack_global("os", "system", "x")[:-1] + b"\xff",
        pickles.stack_global("torch.jit.unsupported_tensor_ops", "execWrapper", "x"),
        pickles.stack_global("numpy.testing._private.utils", "runstring", "x"),
        pickles.stack_global("lib2to3.pgen2.grammar", "Grammar.loads", "x"),
        pickles.stack_global("_aix_support", "_read_cmd_output", "x"),
        pickles.stack_global("imaplib", "IMAP4_stream", "x"),
        pickles.stack_global("aiohttp.client", "ClientSession"),
        pickles.stack_global("logging", "FileHandler", "x"),
        b"\x80\x02\x82\x01.",
        pickles.plain(b"x" * 40 + b"") + pickles.stack_global("os", "system", "x"),
        pickles.plain([pickles.plain([Calls(os.system, "x")]) + b" " * 20]),
        b"\x80\x04" + b"N" + pickles.text("system") + b"\x93)R.",
        b"\x80\x02c__builtin__\ngetattr\ncsubprocess\nPopen\nX\x04\x00\x00\x00Evil\x86R)R.",
        b"\x80\x02c__builtin__\ngetattr\nctorch\nTensor\nX\x05\x00\x00\x00apply\x86R)R.",
        b"\x80\x02c__builtin__\ngetattr\nctorch\nTensor\nX\x08\x00\x00\x00__init__\x86R)R.",
    ],
)
def test_code_that_would_run_is_found(tmp_path: Path, program: bytes) -> None:
    found = scan(written(tmp_path / "x.pkl", program))
    assert found.runs, list(found.lines())


def test_the_call_is_told_with_its_arguments(tmp_path: Path) -> None:
    assert dangers(written(tmp_path / "x.pkl", pickles.old("os", "system", "rm -rf /"))) == [
        "os.system('rm -rf /')"
    ]


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, (3,)], "b": b"bytes", "c": {1, 2}, "d": frozenset("x")},
        collections.OrderedDict(x=np.arange(5), y=np.float32(3)),
        np.array([None, {"a": 1}], object),
        [collections.Counter("ab"), Path("x"), complex(1, 2), range(4), slice(1)],
        np.random.default_rng(0).bit_generator.state,
    ],
)
@pytest.mark.parametrize("protocol", range(6))
def test_data_is_not_alarmed_at(tmp_path: Path, value: object, protocol: int) -> None:
    found = scan(written(tmp_path / "x.pkl", pickle.dumps(value, protocol=protocol)))
    assert not found.runs, list(found.lines())
    assert found.pickles == 1


def test_files_of_weights_are_not_alarmed_at() -> None:
    for folder in ("torch", "reading", "modules", "quantized", "qwen2_5_vl"):
        assert not dangers(FIXTURES / folder), folder


def test_whole_models_are_said_to_need_their_package() -> None:
    found = scan(FIXTURES / "torch" / "whole_module.bin")
    assert not found.runs
    assert {one.level for one in found.findings} == {"code"}


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


EVIL = pickles.stack_global("os", "system", "x")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_member_of_an_archive_is_looked_into(tmp_path: Path, compression: int) -> None:
    members = {"m/data.pkl": pickles.plain({}), "m/version": b"3\n", "m/data/hidden": EVIL}
    found = scan(zipped(tmp_path / "x.pt", members, compression))
    assert [one.file for one in found.findings if one.level == "danger"] == ["x.pt:m/data/hidden"]


def test_archives_that_follow_each_other_are_all_looked_into(tmp_path: Path) -> None:
    evil = zipped(tmp_path / "a", {"a/data.pkl": EVIL}).read_bytes()
    good = zipped(tmp_path / "b", {"b/data.pkl": pickles.plain(1)}).read_bytes()
    found = scan(written(tmp_path / "x.distcp", good + evil + good * 40))
    assert found.runs
    assert found.pickles == 42


def test_headers_that_disagree_do_not_hide_a_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.pt", {"m/data.pkl": EVIL})
    data = path.read_bytes()
    for changed in (
        data.replace(b"m/data.pkl", b"m/data.txt", 1),
        data[:14] + b"\0\0\0\0" + data[18:],
        data[:6] + b"\x01\0" + data[8:],
    ):
        found = scan(written(path, changed))
        assert found.runs, list(found.lines())


def test_a_name_that_leads_out_and_one_that_stands_twice_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    zipped(path, {"../../up": b"", "a.pkl": pickles.plain(1), "b.pkl": pickles.plain(1)})
    path.write_bytes(path.read_bytes().replace(b"b.pkl", b"a.pkl"))
    texts = [one.text for one in scan(path).findings]
    assert any("leads out of the directory" in text for text in texts)
    assert any("stands twice" in text for text in texts)


def test_arrays_of_objects_tars_and_compressed_pickles_are_looked_into(tmp_path: Path) -> None:
    array = np.array([Calls(os.system, "x")], object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez_compressed(tmp_path / "b.npz", x=array)
    written(tmp_path / "c.pkl.gz", gzip.compress(EVIL))
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        info = tarfile.TarInfo("pickle")
        info.size = len(EVIL)
        tar.addfile(info, io.BytesIO(EVIL))
    for path in sorted(tmp_path.iterdir()):
        assert scan(path).runs, path.name


def test_a_directorys_code_templates_and_links_are_told(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(
        json.dumps({"auto_map": {"AutoModel": "modeling_x.Model"}, "model_file": "own.py"})
    )
    (model / "modeling_x.py").write_text("")
    (model / "own.py").write_text("")
    (model / "other.py").write_text("")
    (model / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    (model / "away").symlink_to("/etc/passwd")
    written(model / "training_args.bin", pickles.stack_global("somebody", "Arguments"))
    found = {(one.rule, one.level, one.file) for one in scan(model).findings}
    assert found == {
        ("auto_map", "code", "config.json"),
        ("model_file", "danger", "config.json"),
        ("python file", "code", "modeling_x.py"),
        ("python file", "code", "own.py"),
        ("python file", "note", "other.py"),
        ("template", "danger", "chat_template.jinja"),
        ("link", "note", "away"),
        ("somebody.Arguments", "code", "training_args.bin"),
    }


def test_ordinary_templates_are_not_alarmed_at(tmp_path: Path) -> None:
    assert not scan(FIXTURES / "qwen2_5_vl").findings[1:]


def test_names_are_judged_by_what_they_can_do() -> None:
    levels = {
        "torch._utils._rebuild_tensor_v2": "harmless",
        "torch.nn.modules.linear.Linear": "harmless",
        "torch.hub.load": "danger",
        "subprocess.Popen": "danger",
        "builtins.exec": "danger",
        "ultralytics.nn.tasks.DetectionModel": "code",
        "transformers.training_args.TrainingArguments": "code",
        "mport os.system": "harmless",
    }
    assert {path: level_of(Call(path, "()", 0)) for path in levels} == levels


def test_noise_never_breaks_a_scan(tmp_path: Path) -> None:
    chance = random.Random(1)
    seeds = [EVIL, pickles.plain(list(range(50))), (FIXTURES / "torch" / "dtypes.bin").read_bytes()[:3000]]
    for number in range(300):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 12)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        scan(written(tmp_path / "x.bin", bytes(data[: chance.randrange(1, len(data) + 1)])))
        assert number >= 0


def test_a_program_is_shown_readably(tmp_path: Path) -> None:
    lines = list(disassembled(written(tmp_path / "x.pkl", pickles.old("os", "system", "x"))))
    assert lines[0] == "x.pkl: pickle at byte 0"
    assert lines[1].split() == ["0", "GLOBAL", "os", "system"]
    assert lines[-1].split() == ["17", "STOP"]


def test_the_command_and_its_exit_codes(tmp_path: Path) -> None:
    run = CliRunner().invoke
    evil, good = written(tmp_path / "e.pkl", EVIL), written(tmp_path / "g.pkl", pickles.plain({}))
    assert run(main, ["scan", str(good)]).exit_code == 0
    told = run(main, ["scan", str(evil)])
    assert told.exit_code == 2
    assert "os.system('x')" in told.output
    assert json.loads(run(main, ["scan", str(evil), "--json"]).output)["runs"] is True
    sarif = json.loads(run(main, ["scan", str(evil), "--sarif"]).output)
    assert sarif["runs"][0]["results"][0]["ruleId"] == "os.system"
    assert "STACK_GLOBAL" in run(main, ["scan", str(evil), "--disassemble"]).output
    missing = run(main, ["scan", str(tmp_path / "none")])
    assert (missing.exit_code, missing.output.count("\n")) == (1, 1)


def test_the_library_has_it_too(tmp_path: Path) -> None:
    assert wconv.scan(written(tmp_path / "e.pkl", EVIL)).runs
