// Small kernels that show what device.h makes of CUDA's rules. Each case fills `out`, an array of ints.
#include <exception>
#include <string>

extern "C" const char* attempt(void (*run)(int*), int* out) {
    static std::string what;
    try {
        run(out);
        return nullptr;
    } catch (const std::exception& error) {
        what = error.what();
        return what.c_str();
    }
}

extern "C" void set_order(long order) { emulated::order() = order; }

// ---------------------------------------------------------------------------------------- barriers

template <int THREADS, bool BARRIERS>
__global__ void sum_of_block(int* out) {  // of 1 + index
    __shared__ int sums[THREADS];
    sums[threadIdx.x] = 1 + threadIdx.x;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (BARRIERS) __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = sums[0];
}

extern "C" void sum_with_barriers(int* out) { sum_of_block<256, true><<<8, 256>>>(out); }
extern "C" void sum_without_barriers(int* out) { sum_of_block<256, false><<<8, 256>>>(out); }

template <bool BARRIER>
__global__ void sums_of_blocks(int* out) {  // whose second one overwrites what the first one is read from
    __shared__ int warps[4];
    int sum = 1;
    for (int round = 0; round < 2; ++round) {
        for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(0xffffffff, sum, half);
        if (BARRIER) __syncthreads();
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
        __syncthreads();
        sum = warps[0] + warps[1] + warps[2] + warps[3];
    }
    out[threadIdx.x] = sum;
}
extern "C" void two_sums(int* out) { sums_of_blocks<true><<<1, 128>>>(out); }
extern "C" void two_sums_too_close(int* out) { sums_of_blocks<false><<<1, 128>>>(out); }

__global__ void some_leave(int* out) {  // a thread in three, and no whole warp
    __shared__ int count;
    if (threadIdx.x == 1) count = 0;
    if (threadIdx.x % 3 == 0) return;
    __syncthreads();
    atomicAdd(&count, 1);
    __syncthreads();
    out[threadIdx.x] = count;
}
extern "C" void early_exit(int* out) { some_leave<<<1, 100>>>(out); }

__global__ void one_block_waits(int* out) {
    __shared__ int first;
    if (blockIdx.x == 5) {
        if (threadIdx.x == 0) first = 7;
        __syncthreads();
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x == 5 ? first : 1;
}
extern "C" void barrier_of_one_block(int* out) { one_block_waits<<<8, 16>>>(out); }

// ---------------------------------------------------------------------------------------- lanes

__global__ void all_shuffles(int* out) {
    const int value = 100 + threadIdx.x;
    const struct Pair { double number; char letter; } pair = {0.5 * value, 'a'};
    out[threadIdx.x] = __shfl_sync(0xffffffff, value, 3, 8);
    out[64 + threadIdx.x] = __shfl_up_sync(0xffffffff, value, 2, 8);
    out[128 + threadIdx.x] = __shfl_down_sync(0xffffffff, value, 2, 8);
    out[192 + threadIdx.x] = __shfl_xor_sync(0xffffffff, value, 5);
    out[256 + threadIdx.x] = static_cast<int>(2 * __shfl_xor_sync(0xffffffff, pair, 1).number);
    out[320 + threadIdx.x] = __ballot_sync(0xffffffff, threadIdx.x % 32 < 4) == 15;
}
extern "C" void shuffles(int* out) { all_shuffles<<<1, 64>>>(out); }

__global__ void some_lanes(int* out) {
    if (threadIdx.x >= 6) return;
    if (threadIdx.x < 4) {
        out[threadIdx.x] = __shfl_down_sync(0xf, static_cast<int>(threadIdx.x), 1);  // 3 reads from 4: not here
    } else {
        __syncwarp(0x30);
        out[threadIdx.x] = __shfl_down_sync(0xffffffff & 0x30, 5 - static_cast<int>(threadIdx.x), 1);  // 5 from 6
    }
}
extern "C" void lanes_apart(int* out) { some_lanes<<<1, 32>>>(out); }

// ---------------------------------------------------------------------------------------- launches

__global__ void numbers(int* out) {
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1;
}
extern "C" void three_dimensions(int* out) { numbers<<<dim3(2, 3, 2), dim3(4, 2, 3)>>>(out); }

__global__ void count_down(int* out, int from) {
    while (from > 0) --from, atomicAdd(out, 1);
}
extern "C" void arguments_once(int* out) {
    int launches = 4;
    count_down<<<2, 3>>>(out, ++launches);
    out[1] = launches;
}

__global__ void mirror(int* out) {
    extern __shared__ int room[];
    room[threadIdx.x] = out[threadIdx.x] + threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = room[blockDim.x - 1 - threadIdx.x];
}
extern "C" void dynamic_shared_memory(int* out) { mirror<<<1, 50, 50 * sizeof(int), nullptr>>>(out); }

__global__ void all_atomics(int* out, float* sum, unsigned long long* most) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(sum, 0.5);
    atomicMax(most, static_cast<unsigned long long>(index) << 40);
    atomicMin(out, -index);
    atomicCAS(out + 1, 0, 5);
    atomicExch(out + 2, 9);
}
extern "C" void atomics(int* out) {
    float sum = 0;
    unsigned long long most = 0;
    all_atomics<<<20, 50>>>(out, &sum, &most);
    out[3] = static_cast<int>(sum);
    out[4] = static_cast<int>(most >> 40);
}

// ---------------------------------------------------------------------------------------- what must not pass

__global__ void two_barriers() {
    if (threadIdx.x < 16) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
extern "C" void different_barriers(int*) { two_barriers<<<3, 64>>>(); }

__global__ void half_a_warp() {
    if (threadIdx.x < 16) __shfl_xor_sync(0xffffffff, 1, 1);
    else __syncthreads();
}
extern "C" void lanes_that_never_come(int*) { half_a_warp<<<3, 64>>>(); }

__global__ void outside() { __shfl_sync(1u << 3, 1, 3); }
extern "C" void lane_not_named(int*) { outside<<<1, 32>>>(); }

__global__ void large_frame(int* out) {
    volatile char room[300 << 10];
    for (char volatile& place : room) place = 1;
    out[0] = room[threadIdx.x];
}
extern "C" void stack_too_small(int* out) { large_frame<<<1, 32>>>(out); }

__global__ void copy_float4(float4* to, const float4* from) { to[threadIdx.x] = from[threadIdx.x]; }
extern "C" void misaligned(int* out) {
    copy_float4<<<1, 2>>>(reinterpret_cast<float4*>(out), reinterpret_cast<const float4*>(out + 21));
}

extern "C" void too_many_threads(int* out) { numbers<<<1, 1025>>>(out); }
extern "C" void no_blocks(int* out) { numbers<<<0, 32>>>(out); }
