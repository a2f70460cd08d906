"""A Python without PyTorch: the installed packages but torch's, so that nothing can import or find it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TORCH = (
    "torch",
    "functorch",
    "torchgen",
    "torchvision",
    "torchaudio",
    "nvidia",
    "triton",
    "__editable__",
    "wconv",
)


def packages(folder: Path) -> Path:
    """Links to every installed package except torch's."""
    folder.mkdir()
    for place in {Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}:
        for entry in place.iterdir():
            link = folder / entry.name
            if not entry.name.startswith(TORCH) and not link.is_symlink():
                link.symlink_to(entry)
    return folder


def run(
    site: Path | None, arguments: list[str], cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs Python on `arguments`: over the packages in `site` only, or as installed when that is None."""
    path = [str(ROOT)] if site is None else [str(ROOT), str(site)]
    flags = [] if site is None else ["-S"]
    return subprocess.run(
        [sys.executable, *flags, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **(environment or {})},
        capture_output=True,
        text=True,
    )


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a run that must not fail."""
    if done.returncode:
        pytest.fail(f"{done.args}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout
