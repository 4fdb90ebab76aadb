// Sums over pixels that the loss of several classes is made of, for every choice of maps: their logits are added,
// then go through the softmax. Sums in one pass, gradients in another, which computes all anew and stores nothing.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

constexpr long STRIP = 32;  // pixels of a tile at a time

// Maps (batch,CLASSES,plane) and labels (batch,plane). Choice k, from 1 on, takes the maps whose bits it has.
template <int MAPS, int CLASSES>
struct MutationMaps {
    static constexpr int choices = (1 << MAPS) - 1, sums = COMMON_SUMS + 2 * CLASSES;
    const float *fg[MAPS], *bg[MAPS];  // bg may be null: no background maps
    const int* labels;
    long batch, plane;

    PRANET_DEVICE long tiles() const { return (plane + MUTATION_TILE - 1) / MUTATION_TILE; }
    PRANET_DEVICE long strips() const { return (plane + STRIP - 1) / STRIP; }
};

// `count` pixels of an image; lanes have one array element for each of theirs.
template <int MAPS, int CLASSES, class Lanes>
struct Strip {
    static constexpr long own = STRIP / Lanes::step();
    const MutationMaps<MAPS, CLASSES>& maps;
    const Lanes lane;
    const long image, start, count;
    float p[CLASSES][own];  // probabilities
    float entropy[own];     // cross entropies

    PRANET_DEVICE Strip(const MutationMaps<MAPS, CLASSES>& maps, Lanes lane, long image, long start, long count)
        : maps(maps), lane(lane), image(image), start(start), count(count) {}

    PRANET_DEVICE const int* labels() const { return maps.labels + image * maps.plane + start; }

    PRANET_DEVICE long first(int c) const { return (image * CLASSES + c) * maps.plane + start; }

    // The sum of the chosen maps of class c.
    PRANET_DEVICE void add(const float* const* chosen_of, int choice, int c, float* sum) const {
        for (long k = 0; k < own; ++k) sum[k] = 0;
        for (int m = 0; m < MAPS; ++m) {
            if (!(choice >> m & 1)) continue;
            const float* map = chosen_of[m] + first(c);
            PRANET_LOOP()
            for (long i = lane.first(); i < count; i += lane.step()) sum[i / lane.step()] += map[i];
        }
    }

    PRANET_DEVICE void softmax(int choice) {
        float largest[own], sum[own];
        for (int c = 0; c < CLASSES; ++c) {
            add(maps.fg, choice, c, p[c]);
            for (long k = 0; k < own; ++k) largest[k] = c == 0 || p[c][k] > largest[k] ? p[c][k] : largest[k];
        }
        for (long k = 0; k < own; ++k) sum[k] = 0;
        PRANET_LOOP()
        for (long i = lane.first(); i < count; i += lane.step()) {  // a label that is no class gives no number
            const int label = labels()[i];
            entropy[i / lane.step()] = label < 0 || label >= CLASSES ? NAN : 0.0f;
        }
        for (int c = 0; c < CLASSES; ++c) {
            PRANET_LOOP()
            for (long i = lane.first(); i < count; i += lane.step()) {
                const long k = i / lane.step();
                const float logit = p[c][k] - largest[k];
                entropy[k] -= labels()[i] == c ? logit : 0.0f;
                sum[k] += p[c][k] = std::exp(logit);
            }
        }
        for (long k = 0; k < own; ++k) entropy[k] += std::log(sum[k]), sum[k] = 1.0f / sum[k];
        for (int c = 0; c < CLASSES; ++c)
            for (long k = 0; k < own; ++k) p[c][k] *= sum[k];
    }
};

template <int MAPS, int CLASSES>
struct PartialMutationSums {  // one item for each choice of each tile
    static constexpr int lanes = 32;
    MutationMaps<MAPS, CLASSES> maps;
    double* partial;  // (batch * tiles,choices,sums)

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const int choice = static_cast<int>(item % maps.choices) + 1;
        const long tile = item / maps.choices, image = tile / maps.tiles();
        const long from = tile % maps.tiles() * MUTATION_TILE;
        const long end = from + MUTATION_TILE < maps.plane ? from + MUTATION_TILE : maps.plane;
        double entropy = 0, background = 0, inter[CLASSES] = {}, both[CLASSES] = {};
        for (long start = from; start < end; start += STRIP) {
            const long count = start + STRIP < end ? STRIP : end - start;
            Strip<MAPS, CLASSES, Lanes> strip(maps, lane, image, start, count);
            strip.softmax(choice);
            const int* labels = strip.labels();
            float entropies = 0, backgrounds = 0;
            PRANET_LOOP(reduction(+ : entropies))
            for (long i = lane.first(); i < count; i += lane.step()) entropies += strip.entropy[i / lane.step()];
            for (int c = 0; c < CLASSES; ++c) {
                const float* p = strip.p[c];
                float inters = 0, boths = 0, logits[Strip<MAPS, CLASSES, Lanes>::own];
                PRANET_LOOP(reduction(+ : inters, boths))
                for (long i = lane.first(); i < count; i += lane.step()) {
                    const float here = labels[i] == c ? 1.0f : 0.0f, probability = p[i / lane.step()];
                    inters += here * probability;
                    boths += here + probability * probability;
                }
                inter[c] += inters, both[c] += boths;
                if (!maps.bg[0]) continue;
                strip.add(maps.bg, choice, c, logits);
                PRANET_LOOP(reduction(+ : backgrounds))
                for (long i = lane.first(); i < count; i += lane.step()) {
                    const float x = logits[i / lane.step()];
                    backgrounds += (x < 0.0f ? 0.0f : x) - (labels[i] == c ? 0.0f : x)
                                   + std::log(1.0f + std::exp(-std::fabs(x)));
                }
            }
            entropy += entropies, background += backgrounds;
        }
        double* sums = partial + item * maps.sums;
        store(sums, lane.sum(entropy), lane);
        store(sums + 1, lane.sum(background), lane);
        for (int c = 0; c < CLASSES; ++c) {
            store(sums + COMMON_SUMS + c, lane.sum(inter[c]), lane);
            store(sums + COMMON_SUMS + CLASSES + c, lane.sum(both[c]), lane);
        }
    }

    template <class Lanes>
    PRANET_DEVICE static void store(double* place, double sum, Lanes lane) {
        if (lane.first() == 0) *place = sum;
    }
};

template <int MAPS, int CLASSES>
struct MutationGrad {  // one item for each strip
    static constexpr int lanes = 32;
    MutationMaps<MAPS, CLASSES> maps;
    const double* slopes;  // (choices,sums), of the loss by each sum
    float *grad_fg[MAPS], *grad_bg[MAPS];

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        constexpr long own = Strip<MAPS, CLASSES, Lanes>::own;
        const long start = item % maps.strips() * STRIP;
        const long count = start + STRIP < maps.plane ? STRIP : maps.plane - start;
        Strip<MAPS, CLASSES, Lanes> strip(maps, lane, item / maps.strips(), start, count);
        float grads[MAPS][CLASSES][own] = {};
        for (int choice = 1; choice <= maps.choices; ++choice) foreground(strip, choice, grads);
        store(strip, grads, grad_fg);
        if (!maps.bg[0]) return;
        for (int c = 0; c < CLASSES; ++c) {
            for (int m = 0; m < MAPS; ++m)
                for (long k = 0; k < own; ++k) grads[m][c][k] = 0;
            for (int choice = 1; choice <= maps.choices; ++choice) background(strip, choice, c, grads);
        }
        store(strip, grads, grad_bg);
    }

    template <class Lanes, class Grads>
    PRANET_DEVICE void foreground(Strip<MAPS, CLASSES, Lanes>& strip, int choice, Grads& grads) const {
        constexpr long own = Strip<MAPS, CLASSES, Lanes>::own;
        const Lanes lane = strip.lane;
        const double* slope = slopes + (choice - 1) * maps.sums;
        const float of_entropy = slope[0];
        strip.softmax(choice);
        float mean[own] = {};  // of the slopes of a pixel's probabilities
        for (int c = 0; c < CLASSES; ++c) {
            const float of_inter = slope[COMMON_SUMS + c], of_both = 2.0 * slope[COMMON_SUMS + CLASSES + c];
            PRANET_LOOP()
            for (long i = lane.first(); i < strip.count; i += lane.step()) {
                const float p = strip.p[c][i / lane.step()];
                mean[i / lane.step()] += p * ((strip.labels()[i] == c ? of_inter : 0.0f) + of_both * p);
            }
        }
        for (int c = 0; c < CLASSES; ++c) {
            const float of_inter = slope[COMMON_SUMS + c], of_both = 2.0 * slope[COMMON_SUMS + CLASSES + c];
            float of_logit[own] = {};
            PRANET_LOOP()
            for (long i = lane.first(); i < strip.count; i += lane.step()) {
                const long k = i / lane.step();
                const float p = strip.p[c][k];
                const bool here = strip.labels()[i] == c;
                of_logit[k] = p * ((here ? of_inter : 0.0f) + of_both * p - mean[k])
                              + of_entropy * (p - (here ? 1.0f : 0.0f));
            }
            add_grad(of_logit, choice, c, grads);
        }
    }

    template <class Lanes, class Grads>
    PRANET_DEVICE void background(const Strip<MAPS, CLASSES, Lanes>& strip, int choice, int c,
                                  Grads& grads) const {
        constexpr long own = Strip<MAPS, CLASSES, Lanes>::own;
        const Lanes lane = strip.lane;
        const float slope = slopes[(choice - 1) * maps.sums + 1];
        float logit[own];
        strip.add(maps.bg, choice, c, logit);
        PRANET_LOOP()
        for (long i = lane.first(); i < strip.count; i += lane.step()) {
            const long k = i / lane.step();
            logit[k] = slope * (1.0f / (1.0f + std::exp(-logit[k])) - (strip.labels()[i] == c ? 0.0f : 1.0f));
        }
        add_grad(logit, choice, c, grads);
    }

    // Adds the gradient of a sum of maps to those of the chosen maps.
    template <long OWN, class Grads>
    PRANET_DEVICE static void add_grad(const float (&grad)[OWN], int choice, int c, Grads& grads) {
        for (int m = 0; m < MAPS; ++m)
            if (choice >> m & 1)
                for (long k = 0; k < OWN; ++k) grads[m][c][k] += grad[k];
    }

    template <class Lanes, class Grads>
    PRANET_DEVICE static void store(const Strip<MAPS, CLASSES, Lanes>& strip, const Grads& grads,
                                    float* const* to) {
        const Lanes lane = strip.lane;
        for (int m = 0; m < MAPS; ++m)
            for (int c = 0; c < CLASSES; ++c) {
                float* map = to[m] + strip.first(c);
                PRANET_LOOP()
                for (long i = lane.first(); i < strip.count; i += lane.step()) map[i] = grads[m][c][i / lane.step()];
            }
    }
};

template <int MAPS, int CLASSES>
void mutation_sums(const MutationMaps<MAPS, CLASSES>& maps, double* total, double* partial) {
    const long tiles = maps.batch * ((maps.plane + MUTATION_TILE - 1) / MUTATION_TILE);
    const long width = maps.choices * maps.sums;
    items(tiles * maps.choices, PartialMutationSums<MAPS, CLASSES>{maps, partial});
    items(width, TotalSums<double>{partial, tiles, width, total});
}

template <int MAPS, int CLASSES>
void mutation_sums_grad(const MutationGrad<MAPS, CLASSES>& grads) {
    const auto& maps = grads.maps;
    items(maps.batch * ((maps.plane + STRIP - 1) / STRIP), grads);
}

}  // namespace pranet
}  // namespace
