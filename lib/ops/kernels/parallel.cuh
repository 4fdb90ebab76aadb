// Loops whose bodies are one source for the CPU, on all cores, and for CUDA.
//
// A body is a struct of pointers and sizes with `operator()`. `elements` calls it once for each index. `items`
// calls it once for each item with the lanes that share the item: one on the CPU, `lanes` threads of a block on
// CUDA. A loop `for (long i = lane.first(); i < n; i += lane.step())` is then plain on the CPU and coalesced on
// CUDA. Sums never depend on the number of cores or the order of threads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
// Jittor puts the types of a call after the last #include, which no #if may enclose.

#ifdef __CUDACC__
#define PRANET_DEVICE __device__ __forceinline__
#define PRANET_LOOP(clauses)
#else
#define PRANET_DEVICE inline
#define PRANET_PRAGMA(text) _Pragma(#text)
#define PRANET_LOOP(clauses) PRANET_PRAGMA(omp simd clauses)  // before a loop whose rounds may run together
#endif

namespace {
namespace pranet {

constexpr int THREADS = 256;       // of a block on CUDA
constexpr int MAX_THREADS = 1024;  // of a block whose item is large

#ifdef __CUDACC__

template <int LANES, int WIDE>
struct Split {  // a lane's rows and columns of a matrix
    static constexpr long rows = LANES / WIDE, columns = WIDE;
    long row, column;
};

template <int LANES>
struct Lane {
    __device__ long first() const { return threadIdx.x % LANES; }
    __host__ __device__ static constexpr long step() { return LANES; }

    // For rows of which WIDE lanes take one: several at a time where rows are short.
    template <int WIDE>
    __device__ Split<LANES, WIDE> split() const { return {first() / WIDE, first() % WIDE}; }

    // The sum over all lanes of the item, which each of them gets: of each warp, then of the warps.
    __device__ double sum(double value) const {
        for (int half = 16; half > 0; half /= 2) value += __shfl_xor_sync(0xffffffffu, value, half);
        if (LANES == 32) return value;
        __shared__ double sums[LANES / 32];
        __syncthreads();  // all have read what was there before
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
        __syncthreads();
        double total = 0;
        for (int warp = 0; warp < LANES / 32; ++warp) total += sums[warp];
        return total;
    }

    // The largest value of all lanes of a warp, which each of them gets.
    __device__ float max(float value) const {
        static_assert(LANES == 32, "a warp has the item");
        for (int half = 16; half > 0; half /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, value, half);
            value = other > value ? other : value;
        }
        return value;
    }
};

template <class Body>
struct Block {
    static constexpr int threads = Body::lanes == 32 ? THREADS : Body::lanes, items = threads / Body::lanes;
    static_assert(threads == THREADS || threads == MAX_THREADS, "an item has a warp or a block");
};

template <class Body>
__global__ void __launch_bounds__(Block<Body>::threads) run_items(Body body, long count) {
    const long item = static_cast<long>(blockIdx.x) * Block<Body>::items + threadIdx.x / Body::lanes;
    if (item < count) body(item, Lane<Body::lanes>());  // lanes of an item leave together
}

template <class Body>
void items(long count, const Body& body) {
    const long blocks = (count + Block<Body>::items - 1) / Block<Body>::items;
    if (count > 0) run_items<<<static_cast<unsigned>(blocks), Block<Body>::threads>>>(body, count);
}

template <class Body>
__global__ void run_elements(Body body, long count) {
    const long step = static_cast<long>(gridDim.x) * THREADS;
    for (long i = static_cast<long>(blockIdx.x) * THREADS + threadIdx.x; i < count; i += step) body(i);
}

template <class Body>
void elements(long count, const Body& body) {
    const long blocks = (count + THREADS - 1) / THREADS;
    if (count > 0) run_elements<<<static_cast<unsigned>(blocks < 65536 ? blocks : 65536), THREADS>>>(body, count);
}

#else

constexpr long CHUNK = 1024;  // elements that a core takes at a time

struct Split {
    static constexpr long row = 0, rows = 1, column = 0, columns = 1;
};

struct Lane {
    static constexpr long first() { return 0; }
    static constexpr long step() { return 1; }
    template <int WIDE>
    static constexpr Split split() { return {}; }
    static double sum(double value) { return value; }
    static float max(float value) { return value; }
};

template <class Body>
void items(long count, const Body& body) {
    #pragma omp parallel for schedule(static)
    for (long item = 0; item < count; ++item) body(item, Lane());
}

template <class Body>
void elements(long count, const Body& body) {
    #pragma omp parallel for schedule(static)
    for (long start = 0; start < count; start += CHUNK) {
        const long end = std::min(start + CHUNK, count);
        #pragma omp simd
        for (long i = start; i < end; ++i) body(i);
    }
}

#endif

#ifdef __CUDACC__

__device__ __forceinline__ float4 operator*(const float4& a, const float4& b) {
    return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}

#endif

// ---------------------------------------------------------------------------------------- sums over rows

constexpr int TOGETHER = 8;  // rows of a partial sum that are added at a time

inline long partial_count(long rows) { return (rows + ROWS_PER_SUM - 1) / ROWS_PER_SUM; }

template <int K, class Term>
struct PartialSums {  // one item for each ROWS_PER_SUM rows
    static constexpr int lanes = THREADS;
    Term term;
    long rows, columns;
    double* partial;

    template <class Lanes>
    PRANET_DEVICE void operator()(long part, Lanes lane) const {
        const long start = part * ROWS_PER_SUM, end = start + ROWS_PER_SUM < rows ? start + ROWS_PER_SUM : rows;
        double* sums = partial + part * K * columns;
        long row;
#ifdef __CUDACC__
        for (long c = lane.first(); c < columns; c += lane.step()) {  // whose sums a thread holds
            double own[K] = {};
            for (row = start; row + TOGETHER <= end; row += TOGETHER) add<TOGETHER>(row, c, own, 1);
            for (; row < end; ++row) add<1>(row, c, own, 1);
            for (int k = 0; k < K; ++k) sums[k * columns + c] = own[k];
        }
#else
        (void)lane;
        std::fill(sums, sums + K * columns, 0.0);
        for (row = start; row + TOGETHER <= end; row += TOGETHER) {
            PRANET_LOOP()
            for (long c = 0; c < columns; ++c) add<TOGETHER>(row, c, sums + c, columns);
        }
        for (; row < end; ++row) {
            PRANET_LOOP()
            for (long c = 0; c < columns; ++c) add<1>(row, c, sums + c, columns);
        }
#endif
    }

    // Adds the terms of some rows, whose float32 sum is taken first, to K sums that lie `apart`.
    template <int COUNT>
    PRANET_DEVICE void add(long row, long column, double* sums, long apart) const {
        float terms[K] = {};
        for (int r = 0; r < COUNT; ++r) term(row + r, column, terms);
        for (int k = 0; k < K; ++k) sums[k * apart] += terms[k];
    }
};

template <class T>
struct TotalSums {  // one item for each column of each term
    static constexpr int lanes = 32;
    const double* partial;
    long parts, width;
    T* total;

    template <class Lanes>
    PRANET_DEVICE void operator()(long i, Lanes lane) const {
        double sum = 0;
        for (long part = lane.first(); part < parts; part += lane.step()) sum += partial[part * width + i];
        sum = lane.sum(sum);
        if (lane.first() == 0) total[i] = static_cast<T>(sum);
    }
};

// The sums over all rows of the K terms of each column, (K,columns). `term(row, column, terms)` adds its terms
// to K floats; `partial` has room for partial_count(rows) * K * columns.
template <int K, class Term>
void column_sums(const Term& term, long rows, long columns, double* partial, float* total) {
    const long parts = partial_count(rows);
    items(parts, PartialSums<K, Term>{term, rows, columns, partial});
    items(K * columns, TotalSums<float>{partial, parts, K * columns, total});
}

}  // namespace pranet
}  // namespace
