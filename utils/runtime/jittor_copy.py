"""A copy of the installed Jittor that runs on Python 3.13 and with NumPy 2, which Jittor 1.3.11.0 does not.

Jittor mirrors NumPy's type descriptor and table of functions by hand, in which NumPy 2 has moved and widened
entries. From Python 3.13 on locals() does not see what exec has imported, and a Pickler written in C takes no
function for persistent ids. Six files of the copy are changed. It lies in the cache and comes first on the
path; the installed files stay as they are.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import sys
import warnings
import zlib
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path

from utils.runtime.cache import new_folder

RELEASE = "1.3.11.0"


@dataclass(frozen=True)
class Change:
    """A file of Jittor by its SHA-256, and each text in it that is replaced by another, once."""

    file: str
    sha256: str
    replacements: tuple[tuple[str, str], ...]


CHANGES = (
    Change("jittor/compiler.py", "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898",
           (("locals()[gen_name]", "sys.modules[gen_name]"),)),
    Change("jittor_utils/__init__.py", "d05495d9890cd83f3a83035fff7d9296155c53495d5ddf40fff3b1429896c91c",
           (("locals()[hash]", "sys.modules[hash]"),)),
    Change("jittor_utils/save_pytorch.py", "79805e4779930b1c24a95b06b2c20b2f324b061ca14c3b99f6ef83db2ed80de7",
           (("pickle.Pickler(", "pickle._Pickler("),)),
    # NumPy 2 reports feature version 0x12 and later; its `elsize` is wider and comes after 64 bits of flags.
    Change("jittor/src/pyjt/numpy.h", "2d2d09539972b6a056aa6910b654f115704c777f1f923819f855f30376d19556",
           (("int elsize;\n    int alignment;",
             "union { int numpy1; struct { uint64_t flags; Py_ssize_t size; } numpy2; } elsize;"),
            ("arr->descr->elsize", "PyArray_GetNDArrayCFeatureVersion() < 0x12 ? "
             "arr->descr->elsize.numpy1 : arr->descr->elsize.numpy2.size"))),
    Change("jittor/src/pyjt/numpy.cc", "1bdec1b2c8e2599775116982634e7a6f0530479cdc64cb4d1bb1032d359c386e",
           (("fill(PyArray_CopyInto, 82)",
             "fill(PyArray_CopyInto, PyArray_GetNDArrayCFeatureVersion() < 0x12 ? 82 : 50)"),)),
    # An index that is a NumPy number: NumPy 2 reads more of the descriptor than the type that is filled in.
    Change("jittor/src/pyjt/py_converter.h",
           "188a8301c4cb2da46a4ffd36e49e23e3c5826a9f0de40bccacb34e8888262607",
           (("PyArray_CastScalarToCtype(obj, &value, &array_descr)",
             "value = PyLong_AsLong(PyObjHolder(PyNumber_Long(obj)).obj)"),)),
)


def problem() -> str:
    """What is wrong with the installed Jittor, in a line; "" where it runs as it is, or in a changed copy.

    Where no change is needed, any release is used as it is. Where one is, the files to be changed have to be
    those of 1.3.11.0.
    """
    if not _is_needed():
        return ""
    folder = _installed()
    for change in CHANGES:
        try:
            found = hashlib.sha256((folder / change.file).read_bytes()).hexdigest()
        except OSError:
            found = ""
        if found != change.sha256:
            return (f"jittor {version('jittor')} is here with Python 3.{sys.version_info.minor} and numpy "
                    f"{version('numpy')}, where only jittor {RELEASE} as it was published can be used: "
                    f"{folder / change.file} differs")
    return ""


def use_where_needed(cache: Path) -> None:
    """Puts a changed copy first on the path of this process and of its children, if one is needed.

    It is made under ``cache`` unless it is there. `problem` has found nothing.

    Raises:
        UserError: it cannot be written.
    """
    if _is_needed():
        copy = str(_make(cache))
        sys.path.insert(0, copy)
        before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join([copy, *filter(None, before)])


def _is_needed() -> bool:
    return sys.version_info >= (3, 13) or int(version("numpy").split(".")[0]) >= 2


def _installed() -> Path:
    """The folder that Jittor's two packages were installed into; never the one of a copy."""
    return Path(str(distribution("jittor").locate_file("")))


def _make(cache: Path) -> Path:
    """The folder of the copy, made unless it is there. Raises UserError where it cannot be written."""
    # Other changes and other Pythons have another copy.
    name = f"{RELEASE}-{sys.implementation.cache_tag}-{zlib.crc32(repr(CHANGES).encode()):08x}"
    home = cache / "jittor-copies" / name
    if home.is_dir():
        return home
    with new_folder(home) as temporary:
        for package in ("jittor", "jittor_utils"):
            shutil.copytree(_installed() / package, temporary / package,
                            ignore=shutil.ignore_patterns("__pycache__"))
        for change in CHANGES:
            path = temporary / change.file
            text = path.read_text(encoding="utf-8")
            for before, after in change.replacements:
                text = text.replace(before, after, 1)
            path.write_text(text, encoding="utf-8")
        with warnings.catch_warnings():  # of wrong escapes in docstrings; the import would show them
            warnings.simplefilter("ignore")
            compileall.compile_dir(str(temporary), quiet=2, stripdir=str(temporary), prependdir=str(home))
    return home
