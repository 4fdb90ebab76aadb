"""Where programs may write, and that two do not write in one folder at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from utils.errors import UserError
from utils.outputs import MARKER, check_outputs, output_folder

HOLDER = """
import sys
from pathlib import Path
from utils.errors import UserError
from utils.outputs import output_folder
try:
    with output_folder(Path(sys.argv[1]), ["maps"], [], "test"):
        print("writing", flush=True)
        sys.stdin.read()
except UserError as error:
    sys.exit(f"error: {error}")
"""


def write(folder: Path, *names: str, inputs=(), **options) -> None:
    with output_folder(folder, names, inputs, "test", **options):
        for name in names:
            (folder / name).write_text("ours")


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as refused:
        write(*arguments, **options)
    return str(refused.value)


@pytest.fixture
def start(tmp_path):
    """Starts a process that writes in tmp_path/out, by `HOLDER` or other code."""
    started = []

    def run(code: str = HOLDER) -> subprocess.Popen:
        started.append(subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "out"], cwd=ROOT, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("output", "refused"), [
    ("data/set", True), ("data/set/images/maps", True), ("link/images", True), ("data/set/../set", True),
    ("data/list.txt", True), ("data", True), ("data/settle", False), ("elsewhere", False)])
def test_an_output_is_no_input_and_lies_in_none(tmp_path, output, refused):
    (tmp_path / "data" / "set" / "images").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data" / "set")
    inputs = [tmp_path / "data" / "set", tmp_path / "data" / "list.txt"]
    if refused:
        with pytest.raises(UserError, match="write to another folder"):
            check_outputs([tmp_path / output], inputs)
    else:
        check_outputs([tmp_path / output], inputs)


def test_an_input_given_by_a_link_is_the_file_behind_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_text("theirs")
    (tmp_path / "link.png").symlink_to(tmp_path / "real" / "a.png")
    assert "is " in refusal(tmp_path / "real", "a.png", inputs=[tmp_path / "link.png"], may_replace=True)
    assert (tmp_path / "real" / "a.png").read_text() == "theirs"


def test_what_others_wrote_stays(tmp_path):
    folder = tmp_path / "out"
    (folder / "maps").mkdir(parents=True)
    (folder / "maps" / "a.png").write_text("theirs")
    assert "out/maps: is there, and no program of this project wrote it" in refusal(folder, "maps")
    assert os.listdir(folder) == ["maps"]
    write(folder, "log.csv")
    write(folder, "log.csv")
    assert refusal(folder, "maps").startswith(str(folder / "maps"))


def test_what_the_project_wrote_is_written_again(tmp_path):
    write(tmp_path / "out", "a", "b")
    write(tmp_path / "out", "b", "c")
    assert json.loads((tmp_path / "out" / MARKER).read_text()) == {"written": ["a", "b", "c"]}


def test_may_replace(tmp_path):
    (tmp_path / "a").write_text("theirs")
    write(tmp_path, "a", may_replace=True)
    assert (tmp_path / "a").read_text() == "ours"


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b"\xff", b'{"written": 1}', b'{"written": [[], {}]}',
                                    b"[" * 100_000])
def test_a_damaged_marker_marks_nothing(tmp_path, marker):
    (tmp_path / MARKER).write_bytes(marker)
    (tmp_path / "a").write_text("theirs")
    assert "no program of this project wrote it" in refusal(tmp_path, "a")
    write(tmp_path, "b")
    write(tmp_path, "b")


def test_a_folder_in_which_nothing_was_written_is_gone(tmp_path):
    with pytest.raises(KeyError), output_folder(tmp_path / "new" / "out", ["a"], [], "test"):
        raise KeyError
    assert os.listdir(tmp_path / "new") == []


def test_the_second_says_who_writes_there(start):
    first = start()
    assert first.stdout.readline() == "writing\n"
    second = start()
    assert second.wait(60) == 1
    error = second.stderr.read()
    assert error.count("\n") == 1
    assert f"out: test, process {first.pid} on {os.uname().nodename}, since 20" in error


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_process_holds_nothing(tmp_path, start, number):
    first = start()
    assert first.stdout.readline() == "writing\n"
    first.send_signal(number)
    first.wait(60)
    write(tmp_path / "out", "maps")


def test_a_child_does_not_hold_what_its_parent_held(tmp_path, start):
    first = start(HOLDER.replace("sys.stdin.read()", "import os, time; os.fork() or time.sleep(60)"))
    assert first.stdout.readline() == "writing\n"
    first.kill()
    first.wait(60)
    write(tmp_path / "out", "maps")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written (Not a directory)" in refusal(tmp_path / "file" / "out", "a")


def test_what_a_kill_left_half_written_is_taken_away_and_nothing_else(tmp_path):
    code = "; ".join((
        "import os, pathlib, sys", "from utils.files import atomic_write",
        "folder = pathlib.Path(sys.argv[1])", "first = atomic_write(folder / 'scores.csv')",
        "second = atomic_write(folder / 'maps' / 'a set' / 'p.png')",
        "first.__enter__()", "second.__enter__()", "os.kill(os.getpid(), 9)"))
    out = tmp_path / "out"
    assert subprocess.run([sys.executable, "-c", code, out], cwd=ROOT).returncode == -9
    theirs = {out / name for name in ("a.part", ".b.part", "others/.c.abcdefgh.part")}
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert len(list(out.rglob("*.part"))) == len(theirs) + 2
    with output_folder(out, ["scores.csv", "maps"], [], "test", may_replace=True):
        assert set(out.rglob("*.part")) == theirs
