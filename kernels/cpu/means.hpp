// Means along an axis that stop where regions part, a row at a time.
#pragma once

#include "launch.hpp"
#include "rows.hpp"
#include "within.cuh"

namespace segreg {
namespace {

// A row's neighbours `offset` away on an axis: where they lie, which part of the row has them.
struct Shifted {
    int64 step, stride;
    int begin, end;
};

SEGREG_BODY Shifted shifted_row(Grid grid, int axis, const Row& r, int offset) {
    const int place = axis == 0 ? r.z : r.y, length = axis == 0 ? grid.depth : grid.height;
    if (axis == 2) {
        return {offset, 1, least(most(-offset, 0), grid.width),
                most(grid.width - most(offset, 0), 0)};
    }
    const int64 stride = axis == 0 ? (int64)grid.height * grid.width : grid.width;
    const bool there = place + offset >= 0 && place + offset < length;
    return {offset * stride, stride, 0, there ? grid.width : 0};
}

// How a row is coupled with the neighbours one further along, wholly if `edges` is null; not at all
// beyond the grid.
SEGREG_BODY void couple_row(const float* SEGREG_RESTRICT edges, const Shifted& s, Span wanted,
                            float* SEGREG_RESTRICT path) {
    const int begin = least(most(wanted.begin, s.begin), wanted.end);
    const int end = most(begin, least(wanted.end, s.end));
    for (int x = wanted.begin; x < begin; ++x) path[x] = 0.0f;
    if (edges) {
        SEGREG_SIMD
        for (int x = begin; x < end; ++x) path[x] *= edges[x];
    }
    for (int x = end; x < wanted.end; ++x) path[x] = 0.0f;
}

SEGREG_CLONES
void weigh_row(const float* edges, Grid grid, int axis, const Row& r, Span wanted,
               const Taps& taps, int paired, int64 width, float* SEGREG_RESTRICT weights,
               float* SEGREG_RESTRICT before, float* SEGREG_RESTRICT after,
               float* SEGREG_RESTRICT total) {
    const int begin = wanted.begin, end = wanted.end;
    const float centre = taps.weights[0];
    for (int x = begin; x < end; ++x) {
        before[x] = after[x] = 1.0f;
        total[x] = centre;
    }
    const float* row = edges ? edges + axis * voxels_of(grid) + r.begin : nullptr;
    for (int k = 1; k <= taps.radius; ++k) {
        const Shifted down = shifted_row(grid, axis, r, -k), up = shifted_row(grid, axis, r, k);
        // The edge behind a voxel leads to the next one; it is none where the grid ends.
        couple_row(row ? row + down.step : row, down, wanted, before);
        couple_row(row ? row + up.step - up.stride : row, up, wanted, after);
        const float weight = taps.weights[k];
        float *back = weights - k * width, *on = weights + k * width;
        SEGREG_SIMD
        for (int x = begin; x < end; ++x) {
            back[x] = weight * before[x] * (paired ? after[x] : 1.0f);
            on[x] = weight * after[x] * (paired ? before[x] : 1.0f);
            total[x] += back[x] + on[x];
        }
    }
    for (int x = begin; x < end; ++x) total[x] = 1.0f / total[x];
    for (int x = begin; x < end; ++x) weights[x] = centre * total[x];
    for (int k = 1; k <= taps.radius; ++k) {
        float *back = weights - k * width, *on = weights + k * width;
        SEGREG_SIMD
        for (int x = begin; x < end; ++x) {
            back[x] *= total[x];
            on[x] *= total[x];
        }
    }
}

// The weights of a row's neighbours on an axis: a row of them for each offset, that of the voxels
// themselves in the middle. They add up to one.
struct RowWeights {
    int width, radius;  // the largest of any axis
    std::vector<float> memory;

    RowWeights(int width, const Filter& f)
        : width(width),
          radius(most(f.z.radius, most(f.y.radius, f.x.radius))),
          memory((size_t)(2 * radius + 4) * width) {}

    float* at(int offset) { return memory.data() + (int64)(radius + offset) * width; }

    void weigh(const float* edges, Grid grid, int axis, const Row& r, Span wanted,
               const Taps& taps, int paired) {
        float* spare = at(radius + 1);
        weigh_row(edges, grid, axis, r, wanted, taps, paired, width, at(0), spare, spare + width,
                  spare + 2 * width);
    }
};

// Neighbours on an axis, first to last, that lie in the grid.
struct Offsets {
    int first, last;
};

Offsets offsets_at(int place, int length, int radius) {
    return {-least(radius, place), least(radius, length - 1 - place)};
}

// Adds so many neighbours of a row, weighted; or begins with them.
template <int COUNT, bool FIRST>
SEGREG_BODY void add_neighbours(const float* SEGREG_RESTRICT values, int64 step,
                                const float* SEGREG_RESTRICT weights, int64 width, int begin,
                                int end, float* SEGREG_RESTRICT sum) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) {
        float s = FIRST ? 0.0f : sum[x];
        SEGREG_UNROLL
        for (int k = 0; k < COUNT; ++k) s += weights[k * width + x] * values[k * step + x];
        sum[x] = s;
    }
}

// Rows of several channels: values for the voxels `offset` away are at values + offset * step.
struct Channels {
    int count;
    const float* values;
    int64 step, apart;
    float* means;
    int64 means_apart;
};

const int AT_ONCE = 8;  // neighbours added in one loop

// Begins with `count` neighbours, at most COUNT.
template <int COUNT>
SEGREG_BODY void begin_neighbours(int count, const float* values, int64 step, const float* weights,
                                  int64 width, int begin, int end, float* sum) {
    if (count == COUNT) {
        add_neighbours<COUNT, true>(values, step, weights, width, begin, end, sum);
    } else if constexpr (COUNT > 1) {
        begin_neighbours<COUNT - 1>(count, values, step, weights, width, begin, end, sum);
    }
}

SEGREG_CLONES
void mean_row(const Channels& channels, const float* weights, int64 width, Offsets offsets,
              int begin, int end) {
    const int64 step = channels.step;
    const int count = offsets.last - offsets.first + 1;
    const int first = (count - 1) % AT_ONCE + 1;
    for (int c = 0; c < channels.count; ++c) {
        const float* values = channels.values + c * channels.apart + offsets.first * step;
        const float* w = weights + offsets.first * width;
        float* means = channels.means + c * channels.means_apart;
        begin_neighbours<AT_ONCE>(first, values, step, w, width, begin, end, means);
        for (int k = first; k < count; k += AT_ONCE) {
            add_neighbours<AT_ONCE, false>(values + k * step, step, w + k * width, width, begin,
                                           end, means);
        }
    }
}

}  // namespace
}  // namespace segreg
