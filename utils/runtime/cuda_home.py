"""Makes one folder of what `utils.runtime.cuda` found, a CUDA home that Jittor 1.3.11 accepts.

Jittor wants bin/nvcc, include/ and lib64/ in one place and knows CUDA up to 12.2 with cuDNN 8. The folder
holds links, an nvcc that calls the real one, and headers for what newer versions have dropped
(utils/runtime/cuda_shims). What was found is never touched.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError
from utils.runtime.cache import new_folder
from utils.runtime.cuda import PARTS, Cuda, library_files

SHIMS = Path(__file__).parent / "cuda_shims"
SHARED_INCLUDE = Path("/usr/include")  # every compiler looks there; its other headers are none of ours
MAX_SM = 90  # that Jittor compiles for

# Jittor asks for C++14, in which CUB of CUDA 13 does not compile, and for fast arithmetic, which costs the
# digits that PyTorch has. Its code for sm_90 alone would not run on anything newer.
_NVCC = """#!/bin/sh
for argument; do
    shift
    case $argument in
        -std=c++14) set -- "$@" -std=c++17;;
        --use_fast_math) ;;{newer}
        *) set -- "$@" "$argument";;
    esac
done
exec {nvcc} "$@"
"""
_NEWER = '\n        -code=sm_{sm}) set -- "$@" -code=sm_{sm},compute_{sm};;'

_TRIAL = """
#include <cublas_v2.h>
#include <cudnn.h>
__global__ void trial(float* x) { *x += 1; }
int of(cudaDeviceProp device) { return device.computeMode + device.clockRate; }
"""


@dataclass(frozen=True)
class Layout:
    """The files of a home: a link's target, or a text, for each path in it."""

    name: str  # of the folder; of other contents, another one
    files: dict[str, Path | str]
    shims: tuple[str, ...]  # what was put in for newer versions, in words


def layout(cuda: Cuda) -> Layout:
    """The layout of the home for what was found; ``cuda`` has a toolkit and all parts that are needed."""
    cudnn = _major(cuda.parts["cudnn"].version)
    # GPUs that differ share a cache: Jittor compiles each kernel for all of them.
    sms = sorted({device.sm for device in cuda.driver.devices})
    files: dict[str, Path | str] = {**_headers(cuda), **_libraries(cuda)}
    newer = max(sms, default=0) > MAX_SM
    files["bin/nvcc"] = _NVCC.format(nvcc=shlex.quote(str(cuda.toolkit.nvcc)),
                                     newer=_NEWER.format(sm=MAX_SM) if newer else "")
    files["include/npp.h"] = (SHIMS / "npp.h").read_text()
    shims = ["nvcc: C++17, exact arithmetic" + f", sm_{MAX_SM} for newer GPUs to translate" * newer,
             "npp.h: limits of numbers alone"]
    if cuda.version[0] >= 13:
        files.pop("include/cub", None)  # a linked folder would take ours to where it was found
        files["include/cub/cub.cuh"] = (SHIMS / "cub" / "cub.cuh").read_text()
        _shim_header(files, "driver_types.h")
        shims += ["cub.cuh: names of CUB 2", "driver_types.h: two fields of cudaDeviceProp"]
    if cudnn >= 9:
        _shim_header(files, "cudnn.h")
        for part in ("ops", "cnn"):
            for use in ("infer", "train"):
                files[f"lib64/libcudnn_{part}_{use}.so"] = files[f"lib64/libcudnn_{part}.so"]
        shims += ["cudnn.h: recurrent networks that answer 'not supported'", "libraries by cuDNN 8's names"]
    contents = zlib.crc32(repr(sorted(files.items())).encode())
    sm = "-".join(f"sm{sm}" for sm in sms) or "no-gpu"
    name = f"cuda{cuda.toolkit.name}-cudnn{cuda.parts['cudnn'].version}-{sm}-{contents:08x}"
    return Layout(name, files, tuple(shims))


def _shim_header(files: dict[str, Path | str], name: str) -> None:
    """Puts ours in the place of the one that was found, which it includes by another name."""
    files[f"include/{Path(name).stem}_found.h"] = files.get(f"include/{name}", SHARED_INCLUDE / name)
    files[f"include/{name}"] = (SHIMS / name).read_text()


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdigit() else 0


def _headers(cuda: Cuda) -> dict[str, Path]:
    """Links to all headers, the toolkit's own first, so that its compiler meets none of another version."""
    folders = [found.include for name, found in cuda.parts.items() if name != "cub" or cuda.version[0] < 13]
    links: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        if folder != SHARED_INCLUDE:
            for header in sorted(folder.iterdir()):
                links.setdefault(f"include/{header.name}", header)
    return links


def _libraries(cuda: Cuda) -> dict[str, Path]:
    """Links to all libraries, by all their names and by the one without version that Jittor opens."""
    links: dict[str, Path] = {}
    for part in PARTS:
        lib = cuda.parts[part.name].lib if part.name in cuda.parts else None
        for file in library_files(part, lib) if lib else ():
            links[f"lib64/{file.name}"] = file
            stem, shared, _ = file.name.partition(".so")
            if shared:
                links.setdefault(f"lib64/{stem}.so", file)
    return links


def assemble(cuda: Cuda, cache: Path) -> Path:
    """The home under ``cache`` that has this `layout`, made unless it is there.

    It is tried before it gets its name.

    Raises:
        UserError: it cannot be written, or its compiler compiles nothing.
    """
    contents = layout(cuda)
    home = cache / "cuda" / contents.name
    if home.is_dir():
        return home
    with new_folder(home) as temporary:
        for name, content in contents.files.items():
            _write(temporary / name, content)
        (temporary / "bin" / "nvcc").chmod(0o700)
        _try_compiler(temporary, cuda)
    return home


def _write(path: Path, content: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        path.symlink_to(content)
    else:
        path.write_text(content)


def _try_compiler(home: Path, cuda: Cuda) -> None:
    """Raises UserError for a compiler that is too old for the GPU, or for too new a g++: a second's work."""
    source = home / "trial.cu"
    source.write_text(_TRIAL)
    sms = [device.sm for device in cuda.driver.devices]
    target = [f"-arch=sm_{min(*sms, MAX_SM)}"] if sms else []
    command = [home / "bin" / "nvcc", "-std=c++14", f"-I{home / 'include'}", *target,
               f"-ccbin={shutil.which('g++')}", "-c", source, "-o", os.devnull]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    source.unlink()
    if done.returncode:
        message = " ".join(done.stdout.replace(str(home), "").split())[:300]
        raise UserError(f"{cuda.toolkit.nvcc} (CUDA {cuda.toolkit.name}) cannot compile for this GPU with "
                        f"this g++: {message}; name another toolkit in CUDA_HOME, or take --device cpu")
