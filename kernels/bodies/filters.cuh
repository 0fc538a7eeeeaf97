// Symmetric separable filters: one weighted sum over a box of neighbours.
#pragma once

#include "platform.cuh"

namespace segreg {

// The filter of one axis: weights[0] the centre's, weights[k] that of the two samples k away.
struct Taps {
    const float* weights;
    int radius;
};

// Taps of the three axes; their weights lie one after the other.
struct Filter {
    Taps z, y, x;
    int mirror;
};

SEGREG_BODY Filter make_filter(const float* weights, int radius_z, int radius_y, int radius_x,
                               int mirror) {
    Filter f;
    f.z = {weights, radius_z};
    f.y = {f.z.weights + radius_z + 1, radius_y};
    f.x = {f.y.weights + radius_y + 1, radius_x};
    f.mirror = mirror;
    return f;
}

SEGREG_BODY float weight_at(const Taps& taps, int offset) {
    return taps.weights[offset < 0 ? -offset : offset];
}

// One voxel of the filtered volume. An axis with radius 0 costs nothing.
SEGREG_BODY float filtered(const float* volume, Grid grid, const Filter& f, int z, int y, int x) {
    float sum = 0.0f;
    for (int k = -f.z.radius; k <= f.z.radius; ++k) {
        const int slice = border_index(z + k, grid.depth, f.mirror) * grid.height;
        float plane = 0.0f;
        for (int j = -f.y.radius; j <= f.y.radius; ++j) {
            const int row = slice + border_index(y + j, grid.height, f.mirror);
            float line = 0.0f;
            for (int i = -f.x.radius; i <= f.x.radius; ++i) {
                const int place = border_index(x + i, grid.width, f.mirror);
                line += weight_at(f.x, i) * volume[row * grid.width + place];
            }
            plane += weight_at(f.y, j) * line;
        }
        sum += weight_at(f.z, k) * plane;
    }
    return sum;
}

}  // namespace segreg
