"""What a name in a pickle means for who loads it: data, a package's code, or code of the file's choice."""

from __future__ import annotations

import re
import sys
from typing import Literal

from wconv.examine.scan.walk import Call, inner_class
from wconv.formats.torch.pickle.contract import is_forbidden
from wconv.formats.torch.pickle.names import NAMES

Level = Literal["danger", "code", "harmless"]

STANDARD = sys.stdlib_module_names | frozenset(
    """
    __builtin__ lib2to3 imp distutils asynchat asyncore smtpd cgi cgitb pipes crypt nis telnetlib
    _aix_support _osx_support _pyrepl commands popen2 copy_reg cPickle StringIO
    """.split()  # noqa: SIM905
)
"""The standard library's modules, of older Pythons too. Of them weights need what is harmless, no more."""

EVALUATING = frozenset(
    """
    torch numpy functorch torchvision torchaudio tensorflow keras jax pandas sympy nltk transformers
    """.split()  # noqa: SIM905
)
"""Packages with functions that read files, compile, or evaluate what they are given."""

ACTING = frozenset(
    """
    pip setuptools pkg_resources dill cloudpickle IPython pytest nose yaml jinja2 numexpr boto3 aiohttp httpx
    requests urllib3 paramiko fabric invoke sh pexpect psutil huggingface_hub websockets flask tornado twisted
    """.split()  # noqa: SIM905
)
"""Packages that act on the machine or the network: no object of theirs belongs to weights."""

IMPORTABLE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")

EXTENSION = "copyreg extension"
"""Names by number, which the loading program looks up in a table of its own."""

HARMLESS = re.compile(
    r"torch\.(?:\w*Storage|storage\.\w*Storage|device|dtype|Size|Tensor|\w*Tensor|nn\.Parameter|Generator"
    r"|_utils\._rebuild_\w+|_tensor\._rebuild_from_type_v2|nn\.(?:modules|parameter|utils|parallel)\.[\w.]+"
    r"|optim\.[\w.]+|jit\._pickle\.\w+|serialization\._get_layout|quantization\.[\w.]+|ao\.[\w.]+"
    r"|distributions\.[\w.]+|distributed\.(?:checkpoint|tensor|_tensor|_shard|device_mesh|_mesh_layout)[\w.]+"
    r"|distributed\.remote_device\._remote_device"
    r"|cuda\.\w*Storage|u?int\w*|float\w*|bfloat16|complex\w*|half|double|long|short|bool|q?u?int\w*|strided"
    r"|sparse_\w+|per_\w+_affine\w*|jagged|contiguous_format|channels_last\w*|preserve_format)"
    r"|__torch__\..*"
    r"|numpy\.(?:ndarray|dtype|_?core\.(?:multiarray\.(?:scalar|_reconstruct)|numeric\._frombuffer)"
    r"|random\.(?:_pickle\.\w+|_?mt19937\.\w+|_pcg64\.\w+|_philox\.\w+)|bool_?|float\w*|u?int\w*|complex\w*"
    r"|str_|bytes_|datetime64|timedelta64|dtypes\.\w+|ma\.core\.\w+|matrix|matrixlib\.\w+\.\w+)"
    r"|collections\.(?:OrderedDict|defaultdict|Counter|deque|namedtuple)|_?codecs\.encode|copy_?reg\._reconstructor"
    r"|copyreg\.(?:__newobj__|__newobj_ex__|_reconstructor)|pathlib\.(?:Pure)?(?:Posix|Windows)?Path|datetime\.\w+"
    r"|decimal\.Decimal|fractions\.Fraction|uuid\.UUID|argparse\.Namespace|types\.SimpleNamespace|enum\.\w+"
    r"|(?:re|sre_compile)\._?compile|random\.Random|zoneinfo\.ZoneInfo\._unpickle|ipaddress\.\w+|array\.array"
    r"|array\._array_reconstructor|string\.Template|logging\.(?:Logger|getLogger)"
    r"|(?:builtins|__builtin__)\.(?:set|frozenset|list|tuple|dict|bytearray|bytes|complex|slice|x?range|object"
    r"|int|float|str|bool|long|unicode|Exception|\w+Error|NotImplemented|Ellipsis|NoneType|type|len|sorted|min|max"
    r"|sum|abs)|ml_dtypes\.\w+|joblib\.numpy_pickle\.\w+Wrapper"
)
"""Names that make data, and the classes of layers and optimizers that files of weights hold."""


def _is_private(top: str) -> bool:
    """Whether a module is an inner one, as are those behind the standard library."""
    return top.startswith("_") and top not in ("__main__", "__torch__", "__mp_main__")


def level_of(call: Call) -> Level:
    """What it means that a pickle asks for a name.

    "danger": it can have any code run, or acts on the machine; "code": a package that is no part of the file
    runs code of its own, as classes of whole models do; "harmless": it makes data.
    """
    inner = inner_class(call.path, call.arguments)
    if inner:
        return level_of(Call(inner, None, call.at))
    module, _, name = call.path.rpartition(".")
    top, _, rest = call.path.partition(".")
    if "?" in call.path.split(".") or call.path.startswith(EXTENSION):
        return "danger"
    if (module, name) in NAMES or HARMLESS.fullmatch(call.path) or not IMPORTABLE.fullmatch(call.path):
        return "harmless"
    if is_forbidden(module, name) or is_forbidden(top, rest):
        return "danger"
    if top in STANDARD or top in ACTING or _is_private(top):
        return "danger"
    # functions do what they are asked to; to make an object of a class is the class's own affair
    called = call.arguments is not None and not name.lstrip("_")[:1].isupper()
    return "danger" if called and top in EVALUATING else "code"
