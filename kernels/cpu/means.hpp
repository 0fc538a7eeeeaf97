// Means along an axis that stop where regions part, a row at a time.
#pragma once

#include "launch.hpp"
#include "within.cuh"

namespace segreg {
namespace {

// A row's neighbours `offset` away on an axis: where they lie, which part of the row has them.
struct Shifted {
    int64 step, stride;
    int begin, end;
};

Shifted shifted_row(Grid grid, int axis, const Row& r, int offset) {
    const int place = axis == 0 ? r.z : r.y, length = axis == 0 ? grid.depth : grid.height;
    if (axis == 2) {
        return {offset, 1, least(most(-offset, 0), grid.width),
                most(grid.width - most(offset, 0), 0)};
    }
    const int64 stride = axis == 0 ? (int64)grid.height * grid.width : grid.width;
    const bool there = place + offset >= 0 && place + offset < length;
    return {offset * stride, stride, 0, there ? grid.width : 0};
}

SEGREG_CLONES
void follow_row(const float* SEGREG_RESTRICT edges, int begin, int end,
                float* SEGREG_RESTRICT path) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) path[x] *= edges[x];
}

// The part of a row that is wanted.
struct Span {
    int begin, end;
};

// What two spans share; empty where that is nothing.
Span shared(Span wanted, int begin, int end) {
    const int first = most(wanted.begin, begin);
    return {first, most(first, least(wanted.end, end))};
}

// How a row is coupled with the neighbours one further along; not at all beyond the grid.
void couple_row(const float* edges, const Shifted& s, Span wanted, float* path) {
    const Span there = shared(wanted, s.begin, s.end);
    if (there.begin >= there.end) {
        std::fill(path + wanted.begin, path + wanted.end, 0.0f);
        return;
    }
    follow_row(edges, there.begin, there.end, path);
    std::fill(path + wanted.begin, path + there.begin, 0.0f);
    std::fill(path + there.end, path + wanted.end, 0.0f);
}

SEGREG_CLONES
void weigh_row(const float* SEGREG_RESTRICT path, const float* SEGREG_RESTRICT back, float weight,
               int begin, int end, float* SEGREG_RESTRICT weights, float* SEGREG_RESTRICT total) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) {
        weights[x] = weight * path[x] * back[x];
        total[x] += weights[x];
    }
}

SEGREG_CLONES
void add_row(const float* SEGREG_RESTRICT values, const float* SEGREG_RESTRICT weights, int begin,
             int end, float* SEGREG_RESTRICT sum) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) sum[x] += weights[x] * values[x];
}

SEGREG_CLONES
void divide_row(const float* SEGREG_RESTRICT total, int begin, int end,
                float* SEGREG_RESTRICT sum) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) sum[x] /= total[x];
}

// Room for the weights of a row: how it is coupled with the rows before and after, and their part.
struct RowWeights {
    std::vector<float> before, after, ones, tap, total;
    explicit RowWeights(int width)
        : before(width), after(width), ones(width, 1.0f), tap(width), total(width) {}
};

// Means along an axis of one row. `rows` adds up what they are of: start(centre's weight),
// add(how far away, weights, part of the row), divide(sums of the weights).
template <typename Rows>
void mean_row(const float* edges, Grid grid, int axis, const Row& r, Span wanted, const Taps& taps,
              int paired, RowWeights& room, Rows&& rows) {
    const int begin = wanted.begin, end = wanted.end;
    const float centre = weight_at(taps, 0);
    rows.start(centre);
    std::fill(room.total.begin() + begin, room.total.begin() + end, centre);
    std::fill(room.before.begin() + begin, room.before.begin() + end, 1.0f);
    std::fill(room.after.begin() + begin, room.after.begin() + end, 1.0f);
    const float* row = edges + axis * voxels_of(grid) + r.begin;
    for (int k = 1; k <= taps.radius; ++k) {
        const Shifted before = shifted_row(grid, axis, r, -k);
        const Shifted after = shifted_row(grid, axis, r, k);
        // The edge behind a voxel leads to the next one; it is none where the grid ends.
        couple_row(row + before.step, before, wanted, room.before.data());
        couple_row(row + after.step - after.stride, after, wanted, room.after.data());
        const float weight = weight_at(taps, k);
        const float *back = room.before.data(), *on = room.after.data(), *ones = room.ones.data();
        float *tap = room.tap.data(), *total = room.total.data();
        weigh_row(back, paired ? on : ones, weight, begin, end, tap, total);
        rows.add(-k, tap, shared(wanted, before.begin, before.end));
        weigh_row(on, paired ? back : ones, weight, begin, end, tap, total);
        rows.add(k, tap, shared(wanted, after.begin, after.end));
    }
    rows.divide(room.total.data());
}

// Rows of several channels: source(c, k) is the row of channel c that stands for the voxels k away.
template <typename Source, typename Target>
struct ChannelRows {
    int channels;
    Span wanted;
    Source source;
    Target target;

    void start(float centre) const {
        for (int c = 0; c < channels; ++c) {
            const float* here = source(c, 0);
            float* out = target(c);
            for (int x = wanted.begin; x < wanted.end; ++x) out[x] = centre * here[x];
        }
    }

    void add(int k, const float* weights, Span part) const {
        for (int c = 0; c < channels; ++c) {
            add_row(source(c, k), weights, part.begin, part.end, target(c));
        }
    }

    void divide(const float* total) const {
        for (int c = 0; c < channels; ++c) divide_row(total, wanted.begin, wanted.end, target(c));
    }
};

template <typename Source, typename Target>
ChannelRows<Source, Target> channel_rows(int channels, Span wanted, const Source& source,
                                         const Target& target) {
    return {channels, wanted, source, target};
}

}  // namespace
}  // namespace segreg
