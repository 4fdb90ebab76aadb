// Binary cross entropy and IoU of planes of logits, weighted by pixel: sums in one pass, gradients in another.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

// What one logit gives against a mask in [0,1].
struct Pixel {
    float probability, bce;

    PRANET_DEVICE Pixel(float x, float mask) {
        const float decay = std::exp(-std::fabs(x));  // neither overflows nor loses digits
        const float likelier = 1.0f / (1.0f + decay);
        probability = (x < 0.0f ? decay : 1.0f) * likelier;
        bce = (x < 0.0f ? 0.0f : x) - x * mask + std::log(1.0f + decay);
    }
};

// The maps of a loss. `bg` may be null: no background map. Each plane has `size` pixels.
struct Maps {
    const float *fg, *bg, *mask, *weight;
    long planes, size;
    float weighted_bce;  // 1, or 0: the foreground's cross entropy is the plain mean
    float background_weight;

    PRANET_DEVICE float bce_weight(float weight) const { return 1.0f + weighted_bce * (weight - 1.0f); }
    PRANET_DEVICE long tiles() const { return (size + LOSS_TILE - 1) / LOSS_TILE; }
};

struct LossSums {  // one item for each LOSS_TILE pixels of a plane
    static constexpr int lanes = THREADS;
    Maps maps;
    double* partial;  // (planes,tiles,LOSS_SUMS)

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long tiles = maps.tiles(), start = item % tiles * LOSS_TILE, base = item / tiles * maps.size;
        const long end = start + LOSS_TILE < maps.size ? start + LOSS_TILE : maps.size;
        double weights = 0, bce_weights = 0, fg_bce = 0, bg_bce = 0, inter = 0, both = 0;
        PRANET_LOOP(reduction(+ : weights, bce_weights, fg_bce, inter, both))
        for (long i = base + start + lane.first(); i < base + end; i += lane.step()) {
            const float mask = maps.mask[i], weight = maps.weight[i], bce_weight = maps.bce_weight(weight);
            const Pixel fg(maps.fg[i], mask);
            weights += weight;
            bce_weights += bce_weight;
            fg_bce += bce_weight * fg.bce;
            inter += weight * (fg.probability * mask);
            both += weight * (fg.probability + mask);
        }
        if (maps.bg) {
            PRANET_LOOP(reduction(+ : bg_bce))
            for (long i = base + start + lane.first(); i < base + end; i += lane.step())
                bg_bce += maps.weight[i] * Pixel(maps.bg[i], 1.0f - maps.mask[i]).bce;
        }
        const double sums[LOSS_SUMS] = {lane.sum(weights), lane.sum(bce_weights), lane.sum(fg_bce),
                                   lane.sum(bg_bce), lane.sum(inter), lane.sum(both)};
        if (lane.first() == 0)
            for (int k = 0; k < LOSS_SUMS; ++k) partial[item * LOSS_SUMS + k] = sums[k];
    }
};

struct PlaneLosses {  // one element for each plane
    Maps maps;
    const double* partial;
    double* losses;  // (planes)
    double* slopes;  // (planes,LOSS_SLOPES)

    PRANET_DEVICE void operator()(long plane) const {
        double sums[LOSS_SUMS] = {};
        for (long tile = 0; tile < maps.tiles(); ++tile)
            for (int k = 0; k < LOSS_SUMS; ++k) sums[k] += partial[(plane * maps.tiles() + tile) * LOSS_SUMS + k];
        const double weight = maps.bg ? maps.background_weight : 0.0f;
        const double inter = sums[4] + 1.0, rest = sums[5] - sums[4] + 1.0;
        losses[plane] = sums[2] / sums[1] + weight * sums[3] / sums[0] + 1.0 - inter / rest;
        double* slope = slopes + plane * LOSS_SLOPES;
        slope[0] = 1.0 / sums[1];
        slope[1] = weight / sums[0];
        slope[2] = -1.0 / rest - inter / (rest * rest);
        slope[3] = inter / (rest * rest);
    }
};

struct MeanLoss {  // one element
    const double* losses;
    long planes;
    float* loss;

    PRANET_DEVICE void operator()(long) const {
        double sum = 0;
        for (long plane = 0; plane < planes; ++plane) sum += losses[plane];
        *loss = static_cast<float>(sum / planes);
    }
};

struct LossGrad {  // one item for each LOSS_TILE pixels of a plane
    static constexpr int lanes = THREADS;
    Maps maps;
    const double* slopes;
    const float* grad;
    float *grad_fg, *grad_bg;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long tiles = maps.tiles(), start = item % tiles * LOSS_TILE, base = item / tiles * maps.size;
        const long end = start + LOSS_TILE < maps.size ? start + LOSS_TILE : maps.size;
        const double* slope = slopes + item / tiles * LOSS_SLOPES;
        const double outer = static_cast<double>(*grad) / maps.planes;
        const float fg_bce = slope[0] * outer, bg_bce = slope[1] * outer;
        const float inter = slope[2] * outer, both = slope[3] * outer;
        PRANET_LOOP()
        for (long i = base + start + lane.first(); i < base + end; i += lane.step()) {
            const float mask = maps.mask[i], weight = maps.weight[i];
            const float p = Pixel(maps.fg[i], mask).probability;
            grad_fg[i] = fg_bce * maps.bce_weight(weight) * (p - mask)
                         + weight * (inter * mask + both) * (p * (1.0f - p));
        }
        if (maps.bg) {
            PRANET_LOOP()
            for (long i = base + start + lane.first(); i < base + end; i += lane.step()) {
                const float mask = 1.0f - maps.mask[i];
                grad_bg[i] = bg_bce * maps.weight[i] * (Pixel(maps.bg[i], mask).probability - mask);
            }
        }
    }
};

inline void structure_loss(const Maps& maps, float* loss, double* slopes, double* losses, double* partial) {
    items(maps.planes * ((maps.size + LOSS_TILE - 1) / LOSS_TILE), LossSums{maps, partial});
    elements(maps.planes, PlaneLosses{maps, partial, losses, slopes});
    elements(1, MeanLoss{losses, maps.planes, loss});
}

inline void structure_loss_grad(const Maps& maps, const double* slopes, const float* grad, float* grad_fg,
                                     float* grad_bg) {
    items(maps.planes * ((maps.size + LOSS_TILE - 1) / LOSS_TILE), LossGrad{maps, slopes, grad, grad_fg, grad_bg});
}

}  // namespace pranet
}  // namespace
