// CUDA 13's types for Jittor 1.3.11, whose helper_cuda.h reads two fields of cudaDeviceProp that are gone, to
// choose among GPUs; nothing acts on the choice. The header that was found lies beside this one.
#pragma once
#include "driver_types_found.h"

#define computeMode major
#define clockRate major
