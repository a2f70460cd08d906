"""`-m …driver make|run FOLDER SIDE CASE…`: makes the checkpoints, or runs the converters."""

import contextlib
import importlib
import io
import json
import os
import sys
import traceback
from pathlib import Path

from tests.oracle.torch.converters.case import fingerprint, written
from tests.oracle.torch.converters.cases import CASES

action, folder, side = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
chosen = set(sys.argv[4:])
found = {}
for case in CASES:
    if case.name not in chosen:
        continue
    home = os.environ.get(case.home) if case.home else None
    for entry in reversed((home or "").split(os.pathsep)):
        if entry and entry not in sys.path:
            sys.path.append(entry)
    place = folder / case.name / "in"
    if action == "make":
        torch = importlib.import_module("torch")
        torch.manual_seed(7)
        place.mkdir(parents=True)
        case.make(torch, place)
        continue
    out = folder / case.name / side
    out.mkdir()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            given = case.run(place, out)
        found[case.name] = {name: fingerprint(value) for name, value in (given or {}).items()} | written(out)
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        found[case.name] = (
            f"{type(error).__name__}: {error!s:.400} ({Path(last.filename).name}:{last.lineno})"
        )
        if os.environ.get("TRACE"):
            traceback.print_exc()
(folder / f"{side}.json").write_text(json.dumps(found), encoding="utf-8")
