// 1 + 5 |mean over 31x31 - mask|: window sums that run along columns, then along rows.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

constexpr int REACH = 15;  // of the window to each side
constexpr int BAND = 32;   // pixels after which a running sum begins anew, so that its rounding stays small

struct ColumnSums {  // one item for each BAND rows of a plane
    static constexpr int lanes = THREADS;
    const float* mask;
    float* sums;
    long height, width, bands;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long top = item % bands * BAND, bottom = top + BAND < height ? top + BAND : height;
        const float* in = mask + item / bands * height * width;
        float* out = sums + item / bands * height * width;
        for (long x = lane.first(); x < width; x += lane.step()) out[top * width + x] = 0;
        const long first = top > REACH ? top - REACH : 0;
        const long last = top + REACH < height - 1 ? top + REACH : height - 1;
        for (long y = first; y <= last; ++y) {
            PRANET_LOOP()
            for (long x = lane.first(); x < width; x += lane.step()) out[top * width + x] += in[y * width + x];
        }
        for (long y = top + 1; y < bottom; ++y) {
            const float enters = y + REACH < height, leaves = y - REACH - 1 >= 0;
            const float* next = in + (enters ? y + REACH : y) * width;
            const float* past = in + (leaves ? y - REACH - 1 : y) * width;
            PRANET_LOOP()
            for (long x = lane.first(); x < width; x += lane.step())
                out[y * width + x] = out[(y - 1) * width + x] + (enters * next[x] - leaves * past[x]);
        }
    }
};

struct BoundaryWeight {  // one item for each row
    static constexpr int lanes = 32;
    const float *mask, *sums;
    float* weight;
    long width;

    template <class Lanes>
    PRANET_DEVICE void operator()(long row, Lanes lane) const {
        const float *in = sums + row * width, *pixels = mask + row * width;
        for (long left = lane.first() * BAND; left < width; left += lane.step() * BAND) {
            const long right = left + BAND < width ? left + BAND : width;
            double sum = 0;
            for (long x = left > REACH ? left - REACH : 0; x < left + REACH && x < width; ++x) sum += in[x];
            for (long x = left; x < right; ++x) {
                if (x + REACH < width) sum += in[x + REACH];
                if (x - REACH - 1 >= 0 && x > left) sum -= in[x - REACH - 1];
                const float mean = static_cast<float>(sum / ((2 * REACH + 1) * (2 * REACH + 1)));
                weight[row * width + x] = 1.0f + 5.0f * std::fabs(mean - pixels[x]);
            }
        }
    }
};

// mask, weight and the buffer `sums` are (planes,height,width).
inline void boundary_weight(const float* mask, float* weight, float* sums, long planes, long height, long width) {
    const long bands = (height + BAND - 1) / BAND;
    items(planes * bands, ColumnSums{mask, sums, height, width, bands});
    items(planes * height, BoundaryWeight{mask, sums, weight, width});
}

}  // namespace pranet
}  // namespace
