"""Converts a model of a hub on loopback: `from_hub.py wconv|download SOURCE OUTPUT`.

"download": the hub's own client fetches the model into its cache, then mlx-lm converts that.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

how, source, target = sys.argv[1:]
server = subprocess.Popen(
    [sys.executable, str(Path(__file__).with_name("hub_server.py")), source],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)
home = tempfile.mkdtemp(dir=Path(target).parent)
environment = {**os.environ, "HF_ENDPOINT": server.stdout.readline().strip(), "HF_HOME": home}
environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
FETCH = "import huggingface_hub as hub; print(hub.snapshot_download('someone/model'))"


def run(*words: str) -> str:
    return subprocess.run(
        [sys.executable, *words], env=environment, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


try:
    if how == "wconv":
        run("-m", "wconv", "someone/model", "-o", target, "--dtype", "float16", "-j", "2", "--no-sync")
    else:
        place = run("-c", FETCH).splitlines()[-1]
        run("-m", "mlx_lm", "convert", "--hf-path", place, "--mlx-path", target, "--dtype", "float16")
finally:
    server.communicate("")
    shutil.rmtree(home)
