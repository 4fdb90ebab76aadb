"""CUDA 13 and cuDNN 9 as Jittor meets them: found, put together, and compiled against. No GPU is needed."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from utils.errors import UserError
from utils.runtime import backend, cuda, cuda_home

H100 = cuda.Device("H100", 90)
NEW_DRIVER = cuda.Driver((13, 0), (H100,))
SCRIPT = """#!/bin/sh
case "$*" in
    *--version*) echo 'Cuda compilation tools, release 0.0, V{version}';;
    *--dryrun*) echo '#$ _HERE_={root}/bin'; echo '#$ TOP={root}/bin/..';;
    *) echo "$@" >>{root}/arguments; [ -z '{fails}' ] || { echo '{fails}'; exit 1; };;
esac
"""


def make_toolkit(root: Path, version: str, fails: str = "") -> Path:
    """A compiler that compiles nothing and says that it did, or fails with these words."""
    nvcc = root / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    script = SCRIPT
    for name, value in (("version", version), ("root", str(root)), ("fails", fails)):
        script = script.replace(f"{{{name}}}", value)
    nvcc.write_text(script)
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    return nvcc


def make_parts(root: Path, cudnn: int, without: tuple[str, ...] = ()) -> None:
    for part in cuda.PARTS:
        if part.name not in without:
            header = root / "include" / part.header
            header.parent.mkdir(parents=True, exist_ok=True)
            header.touch()
            for stem in (each for each in part.libraries if "*" not in each):
                library = root / "lib64" / f"{stem}.so.9"
                library.parent.mkdir(exist_ok=True)
                library.touch()
    (root / "include" / "driver_types.h").touch()
    (root / "include" / "cudnn_version.h").write_text(
        f"#define CUDNN_MAJOR {cudnn}\n#define CUDNN_MINOR 2\n#define CUDNN_PATCHLEVEL 1\n")
    for name in ("ops", "cnn"):
        (root / "lib64" / f"libcudnn_{name}.so.9").touch()


def times(folder: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    """Nothing named, an H100 with its driver, and nothing remembered from before."""
    for name in ("nvcc_path", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cuda, "ask_driver", lambda: NEW_DRIVER)
    cuda.find.cache_clear()
    yield
    cuda.find.cache_clear()


DRIVER = """
#include <cstring>
extern "C" {
int cuInit(unsigned) { return STATUS; }
int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
int cuDeviceGetCount(int* count) { *count = COUNT; return 0; }
int cuDeviceGet(int* device, int number) { *device = 7 + number; return 0; }
int cuDeviceGetName(char* name, int, int device) { strcpy(name, device == 7 ? "first" : "second"); return 0; }
int cuDeviceGetAttribute(int* value, int which, int device) { *value = which == 75 ? device : 6; return 0; }
}
"""


@pytest.mark.parametrize(("status", "count", "expected"), [
    (0, 2, "(12, 4) [('first', 76), ('second', 86)] ()"),
    (0, 0, "(12, 4) [] ('the NVIDIA driver shows no device: look at CUDA_VISIBLE_DEVICES',)"),
    (100, 0, "(0, 0) [] ('the NVIDIA driver answers error 100 to cuInit: look at nvidia-smi',)"),
])
def test_the_driver_is_asked_for_its_devices(tmp_path, status, count, expected):
    """A stand-in for the driver answers."""
    (tmp_path / "driver.cc").write_text(DRIVER)
    subprocess.run(["g++", "-shared", "-fPIC", f"-DSTATUS={status}", f"-DCOUNT={count}", "-o",
                    tmp_path / "libcuda.so.1", tmp_path / "driver.cc"], check=True)
    code = ("from utils.runtime import cuda\ndriver = cuda.ask_driver()\n"
            "print(driver.version, [(each.name, each.sm) for each in driver.devices], driver.problems)")
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                           env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})
    assert found.stdout.strip() == expected, found.stderr


def test_a_script_on_the_path_leads_to_the_toolkit(tmp_path, monkeypatch):
    make_parts(tmp_path / "toolkit", 9)
    nvcc = make_toolkit(tmp_path / "toolkit", "12.8.93")
    script = tmp_path / "on path" / "nvcc"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {nvcc} "$@"\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    found = cuda.find()
    assert (found.toolkit.nvcc, found.version, found.problems) == (nvcc, (12, 8, 93), ())
    assert found.parts["cudnn"].version == "9.2.1"


def test_a_named_toolkit_is_taken_or_refused(tmp_path, monkeypatch):
    """Not another one in its place."""
    make_parts(tmp_path, 9, without=("cufft",))
    make_toolkit(tmp_path, "12.8.93")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "_wheels", list)
    assert cuda.find().problems[0].endswith("pip install nvidia-cufft-cu12")
    cuda.find.cache_clear()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "not"))
    assert "name another toolkit, or unset CUDA_HOME" in cuda.find().problems[0]


@pytest.mark.parametrize(("version", "driver", "expected"), [
    ("13.0.88", cuda.Driver((12, 4), (H100,)), "update the driver, or name a toolkit of CUDA 12"),
    ("10.2.89", NEW_DRIVER, "expected 11.0 or newer"),
    ("13.0.88", cuda.Driver((0, 0), (), ("no NVIDIA driver",)), "no NVIDIA driver"),
])
def test_what_does_not_go_together_is_said(tmp_path, monkeypatch, version, driver, expected):
    make_parts(tmp_path, 9)
    make_toolkit(tmp_path, version)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "ask_driver", lambda: driver)
    problem, = cuda.find().problems
    assert expected in problem


def test_home_of_cuda_13(tmp_path, monkeypatch):
    """What was found is linked, never touched; the compiler gets what it needs, no fast arithmetic."""
    found_root = tmp_path / "toolkit"
    make_parts(found_root, 9)
    make_toolkit(found_root, "13.0.88")
    monkeypatch.setenv("CUDA_HOME", str(found_root))
    before = times(found_root)
    home = cuda_home.assemble(cuda.find(), tmp_path / "cache")
    assert re.fullmatch(r"cuda13\.0\.88-cudnn9\.2\.1-sm90-[0-9a-f]{8}", home.name)
    for name in ("cudart", "cublas", "cublasLt", "cudnn", "cudnn_ops_infer", "cudnn_cnn_train", "curand",
                 "cufft", "cusparse", "nvJitLink"):
        assert (home / "lib64" / f"lib{name}.so").resolve().parent == found_root / "lib64", name
    for header in ("cudnn_found.h", "driver_types_found.h"):
        assert (home / "include" / header).resolve().parent == found_root / "include"
    subprocess.run([home / "bin" / "nvcc", "-std=c++14", "--use_fast_math", "-code=sm_90", "a b.cu"],
                   check=True)
    assert (found_root / "arguments").read_text().splitlines()[-1] == "-std=c++17 -code=sm_90 a b.cu"
    (found_root / "arguments").unlink()
    assert times(found_root) == before
    assert cuda_home.assemble(cuda.find(), tmp_path / "cache") == home
    assert not (found_root / "arguments").exists(), "made a second time"


def test_home_of_what_jittor_knows_has_one_shim(tmp_path, monkeypatch):
    make_parts(tmp_path, 8)
    make_toolkit(tmp_path, "12.2.140")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    layout = cuda_home.layout(cuda.find())
    assert [name for name, content in layout.files.items() if isinstance(content, str)] == ["bin/nvcc",
                                                                                             "include/npp.h"]


def test_newer_gpus_translate_the_code(tmp_path, monkeypatch):
    make_parts(tmp_path, 9)
    make_toolkit(tmp_path, "13.0.88")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "ask_driver", lambda: cuda.Driver((13, 0), (cuda.Device("B200", 100),)))
    home = cuda_home.assemble(cuda.find(), tmp_path / "cache")
    subprocess.run([home / "bin" / "nvcc", "-arch=compute_90", "-code=sm_90"], check=True)
    assert (tmp_path / "arguments").read_text().splitlines()[-1] == "-arch=compute_90 -code=sm_90,compute_90"


def test_a_home_that_compiles_nothing_is_not_kept(tmp_path, monkeypatch):
    make_parts(tmp_path, 9)
    make_toolkit(tmp_path, "13.0.88", fails="nvcc fatal: unsupported gpu architecture")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(UserError, match="unsupported gpu architecture") as error:
        cuda_home.assemble(cuda.find(), tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "cuda").iterdir())


# ------------------------------------------------------------------------------ against the real CUDA 13


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    cuda.find.cache_clear()
    found = dataclasses.replace(cuda.find(), driver=NEW_DRIVER)
    cuda.find.cache_clear()
    if found.version < (13, 0) or found.missing_parts:
        pytest.skip("no nvcc 13 with all libraries; requirements-cuda13.txt has them")
    return cuda_home.assemble(found, tmp_path_factory.mktemp("cache"))


def jittor_folder() -> Path:
    return Path(importlib.util.find_spec("jittor").origin).parent


def compile_sources(home: Path, compiler: list, *sources: Path) -> None:
    """With the flags of Jittor, but for those that only make it slow."""
    jittor = jittor_folder()
    includes = [home / "include", jittor / "extern" / "cuda" / "inc", jittor / "src", jittor / "extern"]
    includes += [jittor / "extern" / "cuda" / name / "inc" for name in
                 ("cublas", "cudnn", "curand", "cufft", "cusparse")]
    done = subprocess.run([*compiler, "-std=c++14", "-w", "-DHAS_CUDA", "-DIS_CUDA",
                           *(f"-I{path}" for path in includes), *sources],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def compile_kernel(home: Path, text: str, folder: Path) -> None:
    source = folder / "launcher.cu"
    source.write_text(text)
    compile_sources(home, [home / "bin" / "nvcc", "-arch=compute_90", "-code=sm_90", "-c", "-o", os.devnull,
                           f"-ccbin={shutil.which('g++')}"], source)


@pytest.mark.parametrize("library", ["cublas", "cudnn", "curand", "cufft", "cusparse"])
def test_sources_that_jittor_compiles_at_import(home, library):
    """Those that touch CUDA's libraries: a wrapper, the names of errors, and the operations."""
    folder = jittor_folder() / "extern" / "cuda" / library
    sources = [source for source in sorted(folder.glob("*/*.cc")) if "_test" not in source.name]
    assert any("_wrapper" in source.name for source in sources)
    compile_sources(home, ["g++", "-fsyntax-only"], *sources)


CUB_AS_JITTOR_USES_IT = """
#include <cub/cub.cuh>
#include <thrust/device_vector.h>
struct NonZero { __host__ __device__ bool operator()(const float& x) const { return x != 0; } };
void where(float* x, int* out, int n) {
    size_t bytes = 0;
    cub::CountingInputIterator<int> counting(0);
    cub::TransformInputIterator<bool, NonZero, float*> flags(x, NonZero());
    cub::DeviceSelect::Flagged(nullptr, bytes, counting, flags, out, out, n);
}
__global__ void sum(float* x) {
    typedef cub::WarpReduce<float> WarpReduce;
    __shared__ typename WarpReduce::TempStorage storage;
    float total = WarpReduce(storage).Sum(*x);
    if (cub::LaneId() == 0) *x = total;
}
__global__ void most(float* x) {
    typedef cub::BlockReduce<float, 128> BlockReduce;
    __shared__ typename BlockReduce::TempStorage storage;
    *x = BlockReduce(storage).Reduce(*x, cub::Max());
}
"""


def test_cub_as_jittor_uses_it(home, tmp_path):
    compile_kernel(home, CUB_AS_JITTOR_USES_IT, tmp_path)


def test_headers_that_jittors_kernels_include(home, tmp_path):
    """What it puts on top of fused operations, which few toolkits have all of."""
    headers = sorted((jittor_folder() / "src" / "misc").glob("cuda_*.h"))
    assert {"cuda_limits.h", "cuda_atomic.h"} <= {path.name for path in headers}
    text = "#define JIT\n#define JIT_cuda\n" + "".join(f'#include "misc/{path.name}"\n' for path in headers)
    compile_kernel(home, text + "__global__ void least(float* x) { *x = numeric_min<float>(); }", tmp_path)


def test_a_kernel_of_ours(home, tmp_path, monkeypatch):
    """The text that an operation hands to Jittor, in a function that has what Jittor provides."""
    backend.prepare("cpu")  # and not for the GPU that these tests pretend
    from lib import ops
    from lib.ops import launcher

    texts = []

    def take(file: str, call: str, inputs: list, outputs: list, data: dict):
        texts.append(f"#include <map>\n#include <string>\n{launcher.source(file)}\n"
                     "void run(std::map<std::string, double> data, float* in0_p, float* out0_p) {\n"
                     f"using namespace pranet;\n{call}\n}}\n")
        return [backend.jt.zeros(outputs[0][0])]

    monkeypatch.setattr(launcher, "run", take)
    ops.average_pool(backend.jt.zeros((1, 1, 8, 8)), 3, 1, 1)
    text, = texts
    compile_kernel(home, text, tmp_path)


def test_libraries_open_from_the_home(home):
    """As Jittor opens them; each finds in the home what it needs itself."""
    code = ("import ctypes, sys\n"
            "for name in ('cudart', 'cublasLt', 'cudnn_ops_infer', 'cudnn_ops_train', 'cudnn_cnn_infer', "
            "'cudnn_cnn_train', 'cublas', 'cudnn', 'curand', 'cufft', 'cusparse'):\n"
            "    library = ctypes.CDLL(f'{sys.argv[1]}/lib64/lib{name}.so', ctypes.RTLD_GLOBAL)\n"
            "    if name == 'cudnn': print(library.cudnnGetVersion())\n")
    done = subprocess.run([sys.executable, "-c", code, str(home)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 90000
