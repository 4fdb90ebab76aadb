// Transposed matrices, one after another.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

struct Transpose {  // (planes,rows,columns) to (planes,columns,rows); one item for each tile
    static constexpr int lanes = THREADS;
    static constexpr int side = 32;
    const float* x;
    float* y;
    long rows, columns;

    static long parts(long length) { return (length + side - 1) / side; }
    static long tiles(long planes, long rows, long columns) { return planes * parts(rows) * parts(columns); }

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long across = (columns + side - 1) / side, down = (rows + side - 1) / side;
        const long plane = item / (across * down), tile = item % (across * down);
        const long row = tile / across * side, column = tile % across * side;
        const long height = rows - row < side ? rows - row : side;
        const long width = columns - column < side ? columns - column : side;
        const float* in = x + plane * rows * columns + row * columns + column;
        float* out = y + plane * rows * columns + column * rows + row;
#ifdef __CUDACC__
        // Neighbours are read, then neighbours are written; a column of the odd length meets no bank twice.
        __shared__ float shared[side][side + 1];
        for (long i = lane.first(); i < side * side; i += lane.step())
            if (i / side < height && i % side < width) shared[i / side][i % side] = in[i / side * columns + i % side];
        __syncthreads();
        for (long i = lane.first(); i < side * side; i += lane.step())
            if (i / side < width && i % side < height) out[i / side * rows + i % side] = shared[i % side][i / side];
#else
        (void)lane;
        for (long c = 0; c < width; ++c) {
            PRANET_LOOP()
            for (long r = 0; r < height; ++r) out[c * rows + r] = in[r * columns + c];
        }
#endif
    }
};

}  // namespace pranet
}  // namespace
