"""Where programs write: never in what they read, never over what others wrote, one program at a time.

A folder that a program writes to has a hidden file, `MARKER`: what was written there, and who writes there
now. That file is locked while the program runs, by a POSIX record lock: the kernel releases it with the
process, however that ends, and NFS does so for other machines.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from utils.errors import UserError
from utils.files import HALF_WRITTEN

MARKER = ".jittor-pranet.json"
MAX_MARKER = 1 << 20  # bytes that are read of it


def check_outputs(outputs: Iterable[Path], inputs: Iterable[str | os.PathLike]) -> None:
    """Refuses outputs that are inputs, or one of which lies in the other; links are followed.

    Args:
        inputs: files, and folders all of whose files are read.

    Raises:
        UserError: there is such a pair.
    """
    read = {Path(path).resolve(): path for path in inputs}
    written = {path.resolve(): path for path in outputs}
    for place, output in written.items():
        for each in (place, *place.parents):
            if each in read:
                what = "is" if each == place else "lies in"
                raise UserError(f"{output}: {what} {read[each]}, which is read; write to another folder")
    for place, path in read.items():
        for each in place.parents:
            if each in written:
                raise UserError(f"{path}: lies in {written[each]}, which is written; write to another folder")


def check_output_file(path: Path, inputs: Iterable[str | os.PathLike], may_replace: bool = False) -> None:
    """Refuses to write a file where one is.

    Raises:
        UserError: `check_outputs` refuses; ``path`` is there and ``may_replace`` is false.
    """
    check_outputs([path], inputs)
    if os.path.lexists(path) and not may_replace:
        raise UserError(f"{path}: is there already; choose another name, or write over it with --overwrite")


@contextlib.contextmanager
def output_folder(folder: Path, names: Iterable[str], inputs: Iterable[str | os.PathLike], program: str,
                  may_replace: bool = False) -> Iterator[None]:
    """Lets a program write these names in a folder, alone while the block runs.

    What a killed program has left half written there is taken away.

    Args:
        names: files and folders directly in ``folder``; those that an earlier run wrote may be there.
        inputs: see `check_outputs`.
        program: its name, for others who want to write there meanwhile.
        may_replace: write over what is there, whoever wrote it.

    Raises:
        UserError: `check_outputs` refuses; an output is there and was not written by a program of ours;
            another process writes there; the folder cannot be written.
    """
    names = list(names)
    check_outputs([folder / name for name in names], inputs)
    written = _read(folder / MARKER).get("written")
    written = [name for name in written if isinstance(name, str)] if isinstance(written, list) else []
    if not may_replace:
        _check_foreign(folder, names, written)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _open_locked(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    content = {"written": sorted({*written, *names})}
    holder = {"program": program, "process": os.getpid(), "machine": socket.gethostname(),
              "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        _write(handle, folder, {**content, "writing": holder})
        _clear_half_written(folder, names)
        yield
    finally:
        with contextlib.suppress(UserError, OSError):
            _write(handle, folder, content)
            if os.listdir(folder) == [MARKER]:  # nothing was written
                os.unlink(folder / MARKER)
                folder.rmdir()
        os.close(handle)  # which releases the lock


def _clear_half_written(folder: Path, names: list[str]) -> None:
    inside = ((folder / name).rglob(HALF_WRITTEN) for name in names)
    for path in list(chain(folder.glob(HALF_WRITTEN), *inside)):
        with contextlib.suppress(OSError):
            path.unlink()


def _check_foreign(folder: Path, names: list[str], written: list[str]) -> None:
    foreign = [name for name in names if name not in written and _holds_something(folder / name)]
    if foreign:
        raise UserError(f"{folder / foreign[0]}: is there, and no program of this project wrote it; choose "
                        "another folder, or move it away")


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        with os.scandir(path) as inside:
            return any(True for _ in inside)
    return os.path.lexists(path)


def _open_locked(folder: Path) -> int:
    """The marker's handle, whose lock is ours. Raises UserError where another process has it."""
    while True:
        handle = os.open(folder / MARKER, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(handle)
                raise UserError(f"{folder}: {_holder(folder)} writes there; wait for its end, or choose "
                                "another folder") from None
            print(f"{folder}: its file system has no locks ({error.strerror}); start no other program that "
                  "writes there", file=sys.stderr)
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(folder / MARKER)):
                return handle
        os.close(handle)  # it was removed after we had opened it


def _holder(folder: Path) -> str:
    holder = _read(folder / MARKER).get("writing")
    if not isinstance(holder, dict):
        return "another process"
    return (f"{holder.get('program')}, process {holder.get('process')} on {holder.get('machine')}, since "
            f"{holder.get('since')}")


def _read(path: Path) -> dict:
    """The content of a marker; nothing where it is missing or damaged."""
    try:
        with open(path, "rb") as file:
            content, _ = json.JSONDecoder().raw_decode(file.read(MAX_MARKER).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(handle: int, folder: Path, content: dict) -> None:
    """Writes in place, since the lock is that of this very file; a kill leaves at most a tail of before."""
    text = json.dumps(content).encode()
    try:
        os.pwrite(handle, text, 0)
        os.ftruncate(handle, len(text))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); free some room or choose another "
                        "folder") from error
