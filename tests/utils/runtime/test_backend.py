"""What is found before Jittor is loaded: CUDA, the cache, the requirements."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from utils.errors import UserError
from utils.runtime import cache, cuda, precisions, settings
from utils.runtime.device import DEVICE_VARIABLE, DEVICES, choose_device, warn_of_unused_gpu


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, **environment})


GPU = cuda.Driver((13, 0), (cuda.Device("H100", 90),))
TOOLKIT = cuda.Toolkit(Path("/cuda/bin/nvcc"), Path("/cuda"), (13, 0, 88))


@pytest.fixture
def found(monkeypatch):
    """Sets what `cuda.find` returns, and has `auto` look for it."""
    monkeypatch.delenv(DEVICE_VARIABLE)

    def pretend(result: cuda.Cuda) -> None:
        monkeypatch.setattr(cuda, "find", lambda: result)
    return pretend


def test_the_gpu_is_taken_where_all_of_cuda_is_there(found):
    found(cuda.Cuda(GPU, TOOLKIT))
    assert [choose_device(device) for device in DEVICES] == ["cuda", "cpu", "cuda"]


def test_cuda_with_problems_is_not_taken(found, capsys):
    found(cuda.Cuda(GPU, TOOLKIT, problems=("no cudnn; run: pip",)))
    assert [choose_device(device) for device in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(UserError, match="no cudnn; run: pip"):
        choose_device("cuda")
    warn_of_unused_gpu()
    assert "although there is a GPU: no cudnn" in capsys.readouterr().err


def test_auto_stands_for_what_the_variable_names(found, monkeypatch):
    found(cuda.Cuda(GPU, TOOLKIT))
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    assert [choose_device(device) for device in ("auto", "cuda")] == ["cpu", "cuda"]
    monkeypatch.setenv(DEVICE_VARIABLE, "tpu")
    with pytest.raises(UserError, match="JITTOR_PRANET_DEVICE=tpu: expected one of auto, cpu, cuda"):
        choose_device("auto")


def test_another_allocator_is_not_taken_from_the_environment():
    """With none of its own Jittor gives reshaped variables any memory, and says nothing."""
    code = ("from utils.runtime.backend import jt; doubled = jt.array([1.0, 2.0]) * 2; "
            "print(doubled.reshape(2, 1).numpy().tolist())")
    assert run_python(code, use_sfrl_allocator="0").stdout == "[[2.0], [4.0]]\n"


def test_cache_avoids_homes_that_cannot_serve(tmp_path, monkeypatch):
    monkeypatch.delenv(cache.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    fallback = tmp_path / f"jittor-pranet-{os.getuid()}"

    plain, spaced, blocked = tmp_path / "plain", tmp_path / "with space", tmp_path / "file"
    plain.mkdir()
    spaced.mkdir()
    blocked.touch()
    own = plain / ".cache" / "jittor-pranet"
    for home, expected in ((plain, own), (spaced, fallback), (blocked, fallback)):
        monkeypatch.setenv("HOME", str(home))
        assert cache.cache_folder() == expected


def test_cache_by_name_is_used_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "here"))
    assert cache.cache_folder() == tmp_path / "here"
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "not here"))
    with pytest.raises(UserError, match="without spaces"):
        cache.cache_folder()


def test_missing_parts_are_named_before_jittor_is_touched():
    found = run_python("from utils.runtime import backend\n"
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
    found = run_python("from utils.runtime import backend, jittor_copy\n"
                       "jittor_copy._is_needed = lambda: False  # a copy would come before the stand-in\n"
                       "backend.prepare('cpu')", HOME=str(tmp_path / "home"), PYTHONPATH=str(tmp_path))
    assert found.stdout.split() == ["True", "True"], found.stderr


def test_environment_of_the_user_is_restored(monkeypatch):
    """JITTOR_HOME would be written into the user's own configuration."""
    found = run_python("import os\n"
                       "from utils.runtime.backend import jt\n"
                       "from utils.runtime.cache import cache_folder\n"
                       "print(os.environ['JITTOR_HOME'], str(cache_folder()) in jt.flags.cache_path)",
                       JITTOR_HOME="/somewhere/else")
    assert found.stdout.split() == ["/somewhere/else", "True"], found.stderr
    assert not Path("/somewhere/else").exists()


def test_second_device_is_refused():
    found = run_python("from utils.runtime import backend\n"
                       "backend.prepare('cpu')\n"
                       "print(backend.prepare('auto'))\n"
                       "try: backend.prepare('cuda')\n"
                       "except ValueError as error: print(error)")
    assert found.stdout.splitlines()[0] == "cpu"
    assert "in this process already" in found.stdout


def test_the_cpu_rounds_nothing():
    found = run_python("from utils.runtime import backend\n"
                       "try: backend.prepare('cpu', 'tf32')\n"
                       "except ValueError as error: print(error)\n"
                       "backend.prepare('cpu')\n"
                       "try: backend.prepare('cpu', 'amp')\n"
                       "except ValueError as error: print(error)")
    first, second = found.stdout.splitlines()
    assert "only a GPU computes so" in first and "computes in fp32 already" in second


@pytest.mark.parametrize(("precision", "expected"), [("fp32", "0"), ("tf32", None), ("amp", None)])
def test_tf32_is_forbidden_where_nothing_is_to_be_rounded(monkeypatch, precision, expected):
    """And allowed where it is asked for, whatever the user's environment says."""
    monkeypatch.setenv(precisions.TF32_VARIABLE, "0")
    monkeypatch.setattr(settings.cuda_home, "assemble", lambda found, cache: cache / "home")
    variables = settings.cuda_settings(Path("/cache"), precision)
    assert variables.get(precisions.TF32_VARIABLE) == expected
    assert os.environ.get(precisions.TF32_VARIABLE) == expected


def test_doctor_says_what_is_used_and_what_is_missing():
    command = [sys.executable, "-m", "jittor_pranet", "doctor"]
    good = subprocess.run([*command, "--device", "cpu"], cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0 and "cpu will be used" in good.stdout
    bad = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                         env={**os.environ, "PATH": "/nonexistent"})
    assert bad.returncode == 1 and "MISSING: no C++ compiler" in bad.stdout


def test_smoke_checks_the_operations():
    done = subprocess.run([sys.executable, "-m", "jittor_pranet", "doctor", "--smoke", "--device", "cpu"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.count("right") for line in done.stdout.splitlines() if line.startswith("smoke")] == [1] * 4


def test_smoke_tells_wrong_numbers(monkeypatch):
    from lib import ops, self_test

    product = ops.linear
    monkeypatch.setattr(ops, "linear", lambda *inputs: product(*inputs) * 1.0001)  # as far off as TF32 is
    assert [result.name for result in self_test.check_operations() if not result.passed] == ["matrix product"]


def test_doctor_takes_the_toolkit_that_is_named(tmp_path):
    done = subprocess.run([sys.executable, "-m", "jittor_pranet", "doctor", "--cuda_home", "toolkit"],
                          cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "nvcc_path": "/elsewhere/nvcc"})
    assert done.returncode == 0, done.stderr
    assert f"CUDA_HOME={tmp_path}/toolkit: no compiler {tmp_path}/toolkit/bin/nvcc" in done.stdout
