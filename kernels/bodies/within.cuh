// Neighbours along one axis and their regions: means that stop where regions part, and how far
// the next other region is.
#pragma once

#include "filters.cuh"

namespace segreg {

// The line along one axis as one voxel sees it: its own place, the length, and the step in memory.
struct Line {
    int place, length;
    Index stride;
};

SEGREG_BODY Line line_of(Grid grid, int axis, int z, int y, int x) {
    if (axis == 0) return {z, grid.depth, (Index)grid.height * grid.width};
    if (axis == 1) return {y, grid.height, grid.width};
    return {x, grid.width, 1};
}

// How far two neighbours move as one: within a region they do; across a border the less, the
// farther apart the displacement takes them: a half at a `slip`, a seventeenth at two.
SEGREG_BODY float coupling(bool same, float squared_jump, float slip) {
    const float jumps = squared_jump / (slip * slip);
    return same ? 1.0f : 1.0f / (1.0f + jumps * jumps);
}

// Calls visit(index, weight) for a voxel and its neighbours on an axis; the sum of the weights.
// `edges` holds the coupling of each voxel with the next on this axis, wholly if it is null; a
// neighbour counts as far as all edges on the way to it allow. Paired: and as far as its opposite
// does, so that what is linear stays.
template <typename Visit>
SEGREG_BODY float visit_within(const float* edges, Index index, const Line& axis,
                               const Taps& taps, int paired, const Visit& visit) {
    float total = taps.weights[0], before = 1.0f, after = 1.0f;
    visit(index, total);
    for (int k = 1; k <= taps.radius; ++k) {
        const Index step = k * axis.stride;
        const bool has_before = axis.place - k >= 0, has_after = axis.place + k < axis.length;
        before = has_before ? before * (edges ? edges[index - step] : 1.0f) : 0.0f;
        after = has_after ? after * (edges ? edges[index + step - axis.stride] : 1.0f) : 0.0f;
        const float back = taps.weights[k] * before * (paired ? after : 1.0f);
        const float on = taps.weights[k] * after * (paired ? before : 1.0f);
        total += back;
        total += on;
        if (has_before) visit(index - step, back);
        if (has_after) visit(index + step, on);
    }
    return total;
}

// Weighted mean of one voxel's neighbours on an axis.
SEGREG_BODY float mean_within(const float* volume, const float* edges, Index index,
                              const Line& axis, const Taps& taps, int paired) {
    float sum = 0.0f;
    const float total = visit_within(
        edges, index, axis, taps, paired,
        [&](Index there, float weight) { sum += weight * volume[there]; });
    return sum / total;
}

// A word holds two region numbers: a voxel's own, and that of the nearest other region.
SEGREG_BODY int own_region(int word) {
    return word & 0xffff;
}

SEGREG_BODY int other_region(int word) {
    return (int)((unsigned)word >> 16);
}

SEGREG_BODY int word_of(int own, int other) {
    return own | (int)((unsigned)other << 16);
}

constexpr float NOWHERE = 1e30f;  // a squared distance

// Coupling of a voxel with the next on an axis; none with what is beyond the grid. `unit` brings
// the components of the displacement to one length.
SEGREG_BODY float edge_at(const int* words, const float* displacement, Index voxels, Index index,
                          const Line& axis, Vector unit, float slip) {
    if (axis.place + 1 >= axis.length) return 0.0f;
    const Index next = index + axis.stride;
    const Vector jump = subtract(load_vector(displacement, voxels, next),
                                 load_vector(displacement, voxels, index));
    const Vector apart = make_vector(jump.z * unit.z, jump.y * unit.y, jump.x * unit.x);
    return coupling(own_region(words[index]) == own_region(words[next]), squared_length(apart),
                    slip);
}

// Squared distance to the nearest voxel (a box) of another region, and which region that is.
struct Border {
    float square;
    int other;
};

// Distance along an axis from a voxel's centre to the box of the voxel `offset` away.
SEGREG_BODY float to_box(int offset, float step) {
    const float away = (float)(offset < 0 ? -offset : offset) - 0.5f;
    return away > 0.0f ? away * step : 0.0f;
}

// What the voxel `offset` away offers, given its own region and the border found for it on the
// axes before.
SEGREG_BODY Border border_through(bool same, int region, float square, int other, float away) {
    Border b;
    b.square = away * away + (same ? square : 0.0f);
    b.other = same ? other : region;
    return b;
}

// What one axis adds to the borders that the axes before it found: `squares` is null on the first.
SEGREG_BODY Border nearest_border(const int* words, const float* squares, Index index,
                                  const Line& axis, float step, int radius, float farthest) {
    const int own = own_region(words[index]);
    Border best = {farthest * farthest, own};
    for (int k = -radius; k <= radius; ++k) {
        if (axis.place + k < 0 || axis.place + k >= axis.length) continue;
        const Index there = index + k * axis.stride;
        const int region = own_region(words[there]);
        const Border b = border_through(region == own, region, squares ? squares[there] : NOWHERE,
                                        other_region(words[there]), to_box(k, step));
        if (b.square < best.square) best = b;
    }
    return best;
}

}  // namespace segreg
