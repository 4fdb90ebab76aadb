// CUB 3 with what Jittor 1.3.11 uses of CUB 1 and 2. CUB's own header is the next of this name.
#pragma once
#include_next <cub/cub.cuh>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

namespace cub {

template <class Value>
using CountingInputIterator = thrust::counting_iterator<Value>;

// The arguments of thrust's stand in another order.
template <class Value, class Function, class Iterator>
class TransformInputIterator : public thrust::transform_iterator<Function, Iterator, Value> {
public:
    __host__ __device__ TransformInputIterator(Iterator iterator, Function function)
        : thrust::transform_iterator<Function, Iterator, Value>(iterator, function) {}
};

struct Max {
    template <class Value>
    __host__ __device__ __forceinline__ Value operator()(const Value& a, const Value& b) const {
        return a < b ? b : a;
    }
};

__device__ __forceinline__ unsigned int LaneId() {
    unsigned int lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

}  // namespace cub
