// Samples of a cubic B-spline, its coefficients mirrored about the outermost voxels.
#pragma once

#include "platform.cuh"

namespace segreg {

// Four neighbouring coefficients on one axis, from `first` on, and their weights.
struct Knots {
    int first;
    float w0, w1, w2, w3;
};

// The coefficients around a position; `first` may lie before the axis and the last beyond it.
// A position more than half a voxel outside is taken there.
SEGREG_BODY Knots knots(float position, int length) {
    const float inside = clamp(position, -0.5f, (float)length - 0.5f);
    const int below = (int)(inside + 1.0f) - 1;  // inside + 1 > 0: truncation is floor
    const float t = inside - (float)below;
    const float s = 1.0f - t;
    Knots n;
    n.first = below - 1;
    n.w0 = s * s * s * (1.0f / 6.0f);
    n.w1 = 2.0f / 3.0f - 0.5f * t * t * (1.0f + s);
    n.w2 = 2.0f / 3.0f - 0.5f * s * s * (1.0f + t);
    n.w3 = t * t * t * (1.0f / 6.0f);
    return n;
}

SEGREG_BODY bool leaves_axis(const Knots& n, int length) {
    return n.first < 0 || n.first + 4 > length;
}

// The same sum over coefficients that exist: weights beyond the border go to their mirror images.
// On an axis of fewer than four voxels the last weights are 0.
SEGREG_BODY Knots folded(const Knots& n, int length) {
    const float weights[4] = {n.w0, n.w1, n.w2, n.w3};
    const int first = most(0, least(n.first, length - 4));
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int j = 0; j < 4; ++j) {
        const int place = border_index(n.first + j, length, 1) - first;
        for (int k = 0; k < 4; ++k) sums[k] += place == k ? weights[j] : 0.0f;
    }
    Knots inner = {first, sums[0], sums[1], sums[2], sums[3]};
    return inner;
}

// Steps from one of four neighbours to the others on an axis; on a short one they stay on it.
struct Steps {
    int by[4];
};

SEGREG_BODY Steps steps(int length, int stride) {
    Steps s;
    for (int k = 0; k < 4; ++k) s.by[k] = least(k, length - 1) * stride;
    return s;
}

SEGREG_BODY float interpolate_cubic(const float* coefficients, Grid grid, Vector p) {
    Knots z = knots(p.z, grid.depth), y = knots(p.y, grid.height), x = knots(p.x, grid.width);
    if (leaves_axis(z, grid.depth)) z = folded(z, grid.depth);
    if (leaves_axis(y, grid.height)) y = folded(y, grid.height);
    if (leaves_axis(x, grid.width)) x = folded(x, grid.width);
    const float wz[4] = {z.w0, z.w1, z.w2, z.w3}, wy[4] = {y.w0, y.w1, y.w2, y.w3};
    const Steps slices = steps(grid.depth, grid.height * grid.width);
    const Steps rows = steps(grid.height, grid.width), columns = steps(grid.width, 1);
    coefficients += (z.first * grid.height + y.first) * grid.width + x.first;
    float sum = 0.0f;
    // A slice at a time: all 64 loads at once would take too many registers.
    SEGREG_ROLLED
    for (int i = 0; i < 4; ++i) {
        float plane = 0.0f;
        for (int j = 0; j < 4; ++j) {
            const float* row = coefficients + slices.by[i] + rows.by[j];
            plane += wy[j] * (x.w0 * row[columns.by[0]] + x.w1 * row[columns.by[1]] +
                              x.w2 * row[columns.by[2]] + x.w3 * row[columns.by[3]]);
        }
        sum += wz[i] * plane;
    }
    return sum;
}

}  // namespace segreg
