"""What convolutions and matrix products may round their inputs to on CUDA; sums and all else are float32."""

from __future__ import annotations

import ctypes
from types import ModuleType

from utils.errors import UserError

PRECISIONS = ("fp32", "tf32", "amp")
TF32_VARIABLE = "NVIDIA_TF32_OVERRIDE"  # 0 keeps cuDNN and cuBLAS, whoever calls them, from TF32
CUBLAS_TF32 = 3  # cublasMath_t


def check(precision: str, device: str) -> None:
    """Raises UserError where the CPU is to round."""
    if device == "cpu" and precision != "fp32":
        raise UserError(f"--precision {precision}: only a GPU computes so, and the device is the CPU; leave "
                        "it out, or see what doctor says of the GPU")


def use_tensor_cores(jittor: ModuleType, precision: str) -> None:
    """Sets what ``precision`` needs beyond TF32, which cuDNN takes by itself."""
    if precision == "amp":
        jittor.flags.use_tensorcore = 3  # both libraries may round float32 to float16 on the way in
    elif precision == "tf32":
        # The flag's value for TF32 would let cuDNN take float16 as well.
        extension = ctypes.CDLL(jittor.compile_extern.cublas.__file__)
        handle = ctypes.c_void_p.in_dll(extension, "_ZN6jittor13cublas_handleE")
        status = extension.cublasSetMathMode(handle, CUBLAS_TF32)
        if status:
            raise UserError(f"--precision tf32: cuBLAS answers error {status} to cublasSetMathMode; "
                            "take another precision")
