"""`python -m wconv.torch script.py args…`: runs a script, unchanged, with wconv.torch in torch's place.

`python -m wconv.torch -m package.module args…` runs a module.
"""

from __future__ import annotations

import os
import runpy
import sys

from wconv.torch.install import install

USAGE = (
    "usage: python -m wconv.torch script.py [arguments]\n       python -m wconv.torch -m module [arguments]"
)


def main() -> None:
    arguments = sys.argv[1:]
    by_name = arguments[:1] == ["-m"]
    rest = arguments[1:] if by_name else arguments
    if not rest or rest[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if rest else 2)
    if not by_name and not os.path.exists(rest[0]):
        raise SystemExit(f"wconv.torch: there is no script {rest[0]}\n{USAGE}")
    install()
    sys.argv = rest
    if not sys.flags.safe_path:  # else Python itself puts no such directory first (-P, PYTHONSAFEPATH)
        sys.path[0] = os.getcwd() if by_name else os.path.dirname(os.path.abspath(rest[0]))
    if by_name:
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    main()
