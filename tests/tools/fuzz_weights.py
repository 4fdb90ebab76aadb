"""Feeds damaged and hostile files to the readers of weights, within bounded memory and time.

    python -m tests.tools.fuzz_weights --examples 20000

Whatever a file holds, `read_weights` and `read_info` give arrays or raise UserError; they run, open and
import nothing. Prints how many files were made of each kind and what became of them; a file that breaks the
rule is shown in its smallest form.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickletools
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jittor_pranet.cli.arguments import whole
from tests.helpers.small_weights import (
    place,
    safetensors,
    sample_files,
    signed,
    some_arrays,
    state_pickle,
    text,
    torch_legacy,
    torch_zip,
)
from utils.checkpoint.formats import read_info, read_weights
from utils.checkpoint.unpickler import GLOBALS
from utils.errors import UserError

MAX_MEMORY = 4 << 30  # address space; files of 1 GB are allowed, read and copied
MAX_SECONDS = 5.0
FORBIDDEN = ("exec", "import", "os.", "subprocess.", "socket.", "ctypes.", "shutil.", "marshal.", "pty.",
             "builtins.", "code.", "webbrowser.", "tempfile.", "urllib.", "glob.", "sys.set", "pickle.")
GADGETS = (
    "os.system", "posix.system", "nt.system", "os.popen", "os.execv", "os.mkdir", "subprocess.Popen",
    "subprocess.check_output", "builtins.eval", "builtins.exec", "builtins.compile", "builtins.open",
    "builtins.getattr", "builtins.__import__", "__builtin__.eval", "__builtin__.getattr",
    "importlib.import_module", "runpy.run_path", "pty.spawn", "code.interact", "timeit.timeit",
    "cProfile.run", "bdb.Bdb.run", "pdb.run", "webbrowser.open", "socket.create_connection",
    "urllib.request.urlopen", "shutil.rmtree", "ctypes.CDLL", "operator.attrgetter",
    "operator.methodcaller", "functools.partial", "types.CodeType", "types.FunctionType",
    "marshal.loads", "pickle.loads", "_pickle.loads", "pydoc.pipepager", "asyncio.run",
    "logging.config.listen", "site.os", "antigravity.webbrowser", "copyreg._reconstructor",
    "copyreg.__newobj__", "collections.defaultdict", "numpy.load", "numpy.testing.runstring",
    "numpy.testing._private.utils.runstring", "numpy.f2py.compile",
    "numpy.core.multiarray._reconstruct.__globals__", "torch.load", "torch.hub.load",
    "torch.storage._load_from_bytes", "torch.jit.load", "torch.serialization.load",
    "torch.utils.cpp_extension.load", "torch._utils.__builtins__", "jittor.load",
    "jittor.compiler.run_cmd", "jittor_utils.run_cmd",
)
"""What crafted pickles are known to call, or could, to get further."""

OPCODES = {opcode.name: opcode for opcode in pickletools.opcodes}
NAMES = (*GLOBALS, *GADGETS)


class Watch:
    """Notes what the interpreter is asked for while a file is read."""

    def __init__(self):
        self.active, self.file, self.seen = False, "", []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if self.active and (event.startswith(FORBIDDEN) or (event == "open" and arguments[0] != self.file)):
            self.seen.append((event, str(arguments)[:200]))


# ---- Files

def argument(draw, opcode: pickletools.OpcodeInfo) -> bytes:
    """What follows an opcode in a file, well-formed or nearly so."""
    kind = opcode.arg.name if opcode.arg else ""
    words = st.sampled_from((*NAMES, "a", "storage", "cpu", "f4", "0", ""))
    word = draw(words | st.text(max_size=8)).encode()
    sizes = {"1": "<B", "4": "<I", "8": "<Q"}
    if "nl" in kind:
        if kind == "stringnl_noescape_pair":
            return word.replace(b".", b"\n", 1) + b"\n"
        number = str(draw(st.integers(-3, 1 << 40))).encode()
        return {"decimalnl_short": number, "decimalnl_long": number + b"L", "floatnl": number}.get(
            kind, b"'" + word.replace(b"\n", b"") + b"'") + b"\n"
    if kind.startswith(("string", "unicode", "bytes", "bytearray", "long")):
        declared = draw(st.sampled_from((len(word),) * 8 + (0, 255, 1 << 31, (1 << 32) - 1, 1 << 62)))
        form = sizes[kind[-1]]
        return struct.pack(form, min(declared, 256 ** struct.calcsize(form) - 1)) + word
    width = {"uint1": 1, "uint2": 2, "int4": 4, "uint4": 4, "uint8": 8, "float8": 8}.get(kind, 0)
    return draw(st.binary(min_size=width, max_size=width) | st.integers(0, 5).map(
        lambda value: value.to_bytes(width, "little") if width else b""))


@st.composite
def opcodes(draw) -> bytes:
    """A pickle of any opcodes, in any order, behind and in front of a good one's."""
    good = state_pickle()
    places = [position for _, _, position in pickletools.genops(good)] + [len(good)]
    before, after = sorted(draw(st.tuples(st.sampled_from(places), st.sampled_from(places))))
    names = draw(st.lists(st.sampled_from(sorted(OPCODES)), max_size=12))
    middle = b"".join(OPCODES[name].code.encode("latin-1") + argument(draw, OPCODES[name]) for name in names)
    return good[:before] + middle + good[draw(st.sampled_from((before, after))):]


@st.composite
def calls(draw) -> bytes:
    """A pickle that calls something by its name, in each of the ways there are."""
    name = draw(st.sampled_from(NAMES))
    module, _, function = name.rpartition(".")
    stacked = text(module) + text(function) + b"\x93"
    named = draw(st.sampled_from((f"c{module}\n{function}\n".encode(), stacked)))
    given = b"".join(b"X\4\0\0\0harm" for _ in range(draw(st.integers(0, 6))))
    ways = (b"tR", b"t\x81", b"t}\x92", b"o", f"i{module}\n{function}\n".encode())
    call = draw(st.sampled_from([b"(" + given + way for way in ways] + [b"}b"]))
    return b"\x80\x04}X\1\0\0\0a" + named + call + b"s."


@st.composite
def pickled(draw, content) -> bytes:
    """A pickle in each of the files that can hold one."""
    data, storages = draw(content), {"0": np.arange(6, dtype="<f4").tobytes()}
    kind = draw(st.sampled_from(("plain", "signed", "zip", "legacy")))
    if kind == "zip":
        return torch_zip(io.BytesIO(), data, storages).getvalue()
    if kind == "legacy":
        return torch_legacy(data, storages)
    return signed(data) if kind == "signed" else data


@st.composite
def damaged(draw) -> bytes:
    """A good file with bytes changed, taken out, doubled or cut off."""
    content = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        end = min(len(content), start + draw(st.sampled_from((1, 1, 2, 4, 8, 64))))
        change = draw(st.sampled_from(("flip", "set", "cut", "double", "end")))
        if change == "flip" and content:
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif change == "set":
            content[start:end] = draw(st.sampled_from((b"\0", b"\xff", b"\x7f"))) * (end - start)
        elif change == "cut":
            del content[start:end]
        elif change == "double":
            content[start:start] = content[start:end]
        else:
            del content[start:]
    return bytes(content)


@st.composite
def archives(draw) -> bytes:
    """A zip file of any names, sizes and compression: bombs, ways out of the folder, huge declared shapes."""
    names = st.sampled_from(("a.npy", "../../etc/passwd.npy", "/etc/passwd.npy", "..\\a.npy", "net/data.pkl",
                             "../data.pkl", "net/data/0", "net/data/../0", "a.npy\0.txt", "net/byteorder"))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        comments = st.sampled_from((b"", b"{}", b"[[[", b'{"model_type": 1}'))
        archive.comment = draw(comments | st.binary(max_size=9))
        for name in draw(st.lists(names, max_size=4, unique=True)):
            member = zipfile.ZipInfo(name)
            member.compress_type = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
            contents = st.sampled_from((b"", bytes(1 << 22), state_pickle(), b"little"))
            archive.writestr(member, draw(headers() | contents))
    content = bytearray(stream.getvalue())
    entry = content.rfind(b"PK\1\2")
    if entry >= 0 and draw(st.booleans()):  # the sizes that the directory declares
        content[entry + 20:entry + 28] = struct.pack("<2I", *draw(st.tuples(*[st.sampled_from(
            (0, 24, 1 << 20, (1 << 30) - 1, (1 << 32) - 1))] * 2)))
    return bytes(content)


@st.composite
def headers(draw) -> bytes:
    """A NumPy array of any shape, type and length."""
    shape = draw(st.lists(st.sampled_from((0, 1, 2, 6, -1, 1 << 20, 1 << 40, 1 << 62)), max_size=5))
    kind = draw(st.sampled_from(("<f4", ">f4", "|O", "<f2", "|V8", "<U3", "<M8[s]", "|b1", "<c8", "<i8")))
    header = draw(st.sampled_from((
        f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {tuple(shape)}}}", f"{'(' * 900}1{')' * 900}",
        f"{{'descr': [('a', '{kind}', {tuple(shape)})], 'fortran_order': True, 'shape': ()}}",
        f"{{'descr': '{kind}', 'shape': ()}}", "__import__('os').mkdir('harm')"))).encode() + b"\n"
    version = draw(st.sampled_from((1, 2, 3, 9)))
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    content = bytes(draw(st.sampled_from((0, 4, 24, 48, 4096))))
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + content


@st.composite
def tensor_headers(draw) -> bytes:
    """A file of safetensors whose header has any names, types, shapes and places, or something else."""
    numbers = st.sampled_from((0, 1, 2, 3, 6, 12, 24, 48, -1, 1 << 20, 1 << 62, 1 << 80, 2.5, True, "a"))
    entries = st.builds(place, numbers, numbers, st.lists(numbers, max_size=4) | numbers,
                        st.sampled_from(("F32", "F16", "BF16", "I64", "F8_E4M3", "", "O", 4, [])))
    good = st.sampled_from(({"a": place()}, {"a": place(0, 12, [3]), "b": place(12, 24, [6], "F16")},
                            {"a": place(24, 24, [0]), "b": place(0, 24, [12], "BF16")}))
    names = st.sampled_from(("a", "b", "c", "__metadata__", "a\n", "\ud800", "../a", ""))
    others = st.sampled_from(({}, {"format": "pt"}, [], None, "x", [[[[]]]]))
    header = json.dumps({**draw(good), **draw(st.dictionaries(names, entries | others, max_size=2))}).encode()
    header = draw(st.sampled_from((header,) * 6 + (
        header[:-1], b'{"a":' * 5000, b"[" * 9000, b'{"a": ' + b"9" * 9000 + b"}", b"{\xff}", b'{"a":NaN}',
        header[:-1] + b',"a":{}}', header + b" " * 9, b" " + header, header * 2)))
    length = draw(st.sampled_from((None,) * 6 + (0, 1, len(header) + 24, 1 << 22, 1 << 31, 1 << 40, 1 << 63)))
    return safetensors(header, bytes(draw(st.sampled_from((0, 12, 24, 24, 24, 25, 4096)))), length)


@st.composite
def one_opcode(draw, name: str) -> bytes:
    good = state_pickle()
    return good[:-1] + OPCODES[name].code.encode("latin-1") + argument(draw, OPCODES[name]) + b"."


KINDS = {"damaged": damaged(), "any opcodes": pickled(opcodes()), "calls": pickled(calls()),
         "archives": archives(), "safetensors": tensor_headers()}


# ---- Reading them

COUNTS: Counter = Counter()
GOOD: list[bytes] = []


def read(path: Path, content: bytes, watch: Watch) -> str:
    """Reads a file as the programs do. Raises AssertionError when it did or took more than it may."""
    path.write_bytes(content)
    outcome, start = "read", time.monotonic()
    for reader in (read_info, read_weights):
        watch.file, watch.active, watch.seen = str(path), True, []
        try:
            assert isinstance(reader(path), dict)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error), error
            outcome = "refused"
        finally:
            watch.active = False
        assert not watch.seen, watch.seen
    assert os.listdir(path.parent) == [path.name]
    seconds = time.monotonic() - start
    assert seconds < MAX_SECONDS, f"{seconds:.1f} s"
    COUNTS["slowest, ms"] = max(COUNTS["slowest, ms"], round(1000 * seconds))
    return outcome


def fuzz(kind: str, files: st.SearchStrategy, examples: int, folder: Path, watch: Watch) -> None:
    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))
    @given(files)
    def one(content: bytes) -> None:
        COUNTS[f"{kind}: {read(folder / 'net.pth', content, watch)}"] += 1

    one()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=whole(1), default=200, metavar="N", help="files of each kind")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of zipfile, at names that an archive has twice
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in sample_files(folder):
            GOOD.append(path.read_bytes())
            path.unlink()
        os.chdir(folder)
        for content in GOOD:  # what is imported on first use is not a file's doing
            (folder / "net.pth").write_bytes(content)
            assert list(read_weights(folder / "net.pth")) in ([*some_arrays()], ["a"])
        for name in OPCODES:
            fuzz(f"each of {len(OPCODES)} opcodes", pickled(one_opcode(name)), 8, folder, watch)
        for kind, files in KINDS.items():
            fuzz(kind, files, args.examples, folder, watch)
    for what, count in sorted(COUNTS.items()):
        print(f"{what}: {count}")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


if __name__ == "__main__":
    main()
