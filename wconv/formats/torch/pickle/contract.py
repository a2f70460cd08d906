"""The pickle machine's limits, and the names that it refuses."""

from __future__ import annotations

WINDOW = 8 << 20
"""Bytes of the program that are in memory at a time."""

MARGIN = 64 << 10
"""Bytes that an opcode may be sure to find ahead of it, unless the file ends; the longest name or line."""

PROGRAM_LIMIT = 128 << 20
"""Bytes that a pickle's program may have, arrays of `PAYLOAD` bytes and more within it not counted."""

BUDGET = 384 << 20
"""Bytes of objects that a pickle may make, not counting numbers below 256 and what a name stands for."""

PAYLOAD = 64 << 10
"""A byte string of this length is left in the file and read by range."""

NUMBER_LIMIT = 1000
"""Characters or bytes of one number."""

KEY_NODES = 1000
"""Values within one tuple that serves as a key."""

KEY_DEPTH = 20
"""Tuples within tuples in one key."""

KEY_INTEGER = 2**61 - 1
"""Integers that serve as keys are below: above, any number of them can have the same hash."""

KEY_PART_INTEGER = 2**32
"""Integers in tuples that serve as keys are below: with larger ones, hashes of tuples can be made to meet."""

KEY_NUMBERS = 20_000
"""Numbers within tuples that serve as keys, floats counted four times: with patience, tuples of small numbers
can be made to meet as well, and then a dict of n of them takes n² steps."""

KEY_FLOAT = 2.0**53
"""Floats that serve as keys are below, for the same reason."""

MARKS = 10_000
"""Marks that are open at a time."""

FORBIDDEN = frozenset(
    """
    os posix nt posixpath ntpath subprocess sys shutil socket pty runpy importlib imp ctypes _ctypes
    code codeop pickle _pickle cPickle marshal shelve dill cloudpickle joblib webbrowser commands
    popen2 platform pdb bdb profile cProfile timeit trace multiprocessing threading _thread asyncio
    concurrent signal resource fcntl mmap tempfile glob io _io fileinput urllib urllib2 http httplib
    requests ftplib smtplib telnetlib ssl xmlrpc pip setuptools distutils pkgutil zipimport site
    sysconfig venv ensurepip gc inspect atexit sqlite3 pydoc doctest linecache tokenize
    antigravity idlelib test unittest
    """.split()  # noqa: SIM905
)
"""Top-level modules that no weights need."""

FORBIDDEN_BUILTINS = frozenset(
    """
    eval exec execfile compile open file input raw_input __import__ reload globals locals vars exit
    quit help breakpoint setattr delattr apply memoryview print
    """.split()  # noqa: SIM905
)

FORBIDDEN_NAMES = frozenset(
    {
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.hub", "_load_local"),
        ("torch.serialization", "load"),
        ("torch.jit", "load"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "memmap"),
        ("logging.config", "listen"),
        ("operator", "attrgetter"),
        ("operator", "methodcaller"),
        ("builtins", "exec"),
    }
)

BUILTINS = ("builtins", "__builtin__")

BINDING = frozenset({"functools.partial"})
"""What keeps a function without calling it."""


def is_forbidden(module: str, name: str) -> bool:
    """Whether a name stands for something that acts on the machine, and that no weights call."""
    return (
        module.split(".", 1)[0] in FORBIDDEN
        or (module, name) in FORBIDDEN_NAMES
        or (module in BUILTINS and name.split(".", 1)[0] in FORBIDDEN_BUILTINS)
    )


def printable(text: str) -> str:
    """A name from a file, fit for one line."""
    return text[:100].encode("unicode_escape").decode("ascii")
