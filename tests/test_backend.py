"""What is found before Jittor is loaded: CUDA, the cache, the requirements."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from utils import backend, cuda
from utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, **environment})


@pytest.fixture
def no_cuda_cache():
    cuda.find.cache_clear()
    yield
    cuda.find.cache_clear()


def make_nvcc(home: Path, version: str) -> None:
    nvcc = home / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version[:4]}, V{version}'\n")
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)


def make_libraries(home: Path) -> None:
    (home / "lib64").mkdir()
    for name in cuda.LIBRARIES:
        (home / "lib64" / f"lib{name}.so").touch()


def test_an_nvcc_alone_is_no_cuda_home(tmp_path, monkeypatch, no_cuda_cache):
    make_nvcc(tmp_path, "12.2.140")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "_count_devices", lambda: (1, ""))
    assert backend.choose_device("auto") == "cpu"
    with pytest.raises(UserError) as error:
        backend.choose_device("cuda")
    assert "libcudart.so" in str(error.value)


def test_a_whole_cuda_home_is_chosen(tmp_path, monkeypatch, no_cuda_cache):
    make_nvcc(tmp_path, "12.2.140")
    make_libraries(tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "_count_devices", lambda: (1, ""))
    assert backend.choose_device("auto") == "cuda"
    assert backend.choose_device("cpu") == "cpu"


def test_without_a_device_cuda_is_not_chosen(tmp_path, monkeypatch, no_cuda_cache):
    make_nvcc(tmp_path, "12.2.140")
    make_libraries(tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "_count_devices", lambda: (0, "no NVIDIA driver"))
    assert backend.choose_device("auto") == "cpu"
    with pytest.raises(UserError, match="no NVIDIA driver"):
        backend.choose_device("cuda")


def test_a_cuda_newer_than_jittor_knows_is_named(tmp_path, monkeypatch, no_cuda_cache):
    make_nvcc(tmp_path, "13.0.88")
    make_libraries(tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "_count_devices", lambda: (1, ""))
    with pytest.raises(UserError, match=r"13\.0\.88"):
        backend.choose_device("cuda")


def test_cache_avoids_homes_that_cannot_serve(tmp_path, monkeypatch):
    monkeypatch.delenv(backend.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(backend.tempfile, "gettempdir", lambda: str(tmp_path))
    fallback = tmp_path / f"jittor-pranet-{os.getuid()}"

    plain, spaced, blocked = tmp_path / "plain", tmp_path / "with space", tmp_path / "file"
    plain.mkdir()
    spaced.mkdir()
    blocked.touch()
    own = plain / ".cache" / "jittor-pranet"
    for home, expected in ((plain, own), (spaced, fallback), (blocked, fallback)):
        monkeypatch.setenv("HOME", str(home))
        assert backend.cache_folder() == expected


def test_cache_by_name_is_used_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(backend.CACHE_VARIABLE, str(tmp_path / "here"))
    assert backend.cache_folder() == tmp_path / "here"
    monkeypatch.setenv(backend.CACHE_VARIABLE, str(tmp_path / "not here"))
    with pytest.raises(UserError, match="without spaces"):
        backend.cache_folder()


def test_missing_parts_are_named_before_jittor_is_touched():
    found = run_python("from utils import backend\n"
                       "try: backend.prepare('cpu')\n"
                       "except ValueError as error: print(error)\n"
                       "import sys; print('jittor' in sys.modules)", PATH="/nonexistent")
    assert "g++" in found.stdout and found.stdout.endswith("False\n")


def test_onednn_lies_where_jittor_looks_before_it_is_imported(tmp_path):
    """With a fresh home, as on the first run; a stand-in for Jittor looks, which is built in no time."""
    (tmp_path / "jittor.py").write_text(
        "import pathlib\n"
        "mkl = pathlib.Path.home() / '.cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp'\n"
        "for name in ('lib/libmkldnn.so', 'include/dnnl.hpp'): print((mkl / name).is_file())\n"
        "class flags: use_cuda = 0\n")
    found = run_python("from utils import backend; backend.prepare('cpu')", HOME=str(tmp_path / "home"),
                       PYTHONPATH=str(tmp_path))
    assert found.stdout.split() == ["True", "True"], found.stderr


def test_environment_of_the_user_is_restored(monkeypatch):
    """JITTOR_HOME would be written into the user's own configuration."""
    found = run_python("import os\n"
                       "from utils.backend import jt\n"
                       "print(os.environ['JITTOR_HOME'], 'jittor-pranet' in jt.flags.cache_path)",
                       JITTOR_HOME="/somewhere/else")
    assert found.stdout.split() == ["/somewhere/else", "True"], found.stderr
    assert not Path("/somewhere/else").exists()


def test_second_device_is_refused():
    found = run_python("from utils import backend\n"
                       "backend.prepare('cpu')\n"
                       "print(backend.prepare('auto'))\n"
                       "try: backend.prepare('cuda')\n"
                       "except ValueError as error: print(error)")
    assert found.stdout.splitlines()[0] == "cpu"
    assert "in this process already" in found.stdout


def test_doctor_says_what_is_used_and_what_is_missing():
    command = [sys.executable, "-m", "jittor_pranet", "doctor"]
    good = subprocess.run([*command, "--device", "cpu"], cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0 and "cpu will be used" in good.stdout
    bad = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                         env={**os.environ, "PATH": "/nonexistent"})
    assert bad.returncode == 1 and "MISSING: no C++ compiler" in bad.stdout
