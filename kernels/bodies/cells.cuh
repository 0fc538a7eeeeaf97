// Cells of a few voxels: what a step on image and outlines needs of them, summed over those of
// their voxels that belong to the cell's region.
#pragma once

#include "matching.cuh"

namespace segreg {

// How a fine grid is cut into cells: `factor` voxels of each axis; the last cell takes the rest.
struct Cells {
    Grid grid;
    int factor_z, factor_y, factor_x;
};

// The first voxel of a cell along an axis, and one past its last.
SEGREG_BODY int cell_begin(int cell, int factor) {
    return cell * factor;
}

SEGREG_BODY int cell_end(int cell, int cells, int factor, int length) {
    return cell + 1 == cells ? length : (cell + 1) * factor;
}

SEGREG_BODY float cell_share(const Cells& cells) {
    return 1.0f / ((float)cells.factor_z * (float)cells.factor_y * (float)cells.factor_x);
}

// Channels of a cell's window: how many voxels, and sums over them.
enum WindowChannel { COUNTED, FIXED, FIXED_SQUARE, SEEN, SEEN_SQUARE, BOTH, WINDOW_CHANNELS };

struct WindowSums {
    float n[WINDOW_CHANNELS];
};

SEGREG_BODY WindowSums window_at(float fixed, float moving, bool counts) {
    const float own = counts ? 1.0f : 0.0f;
    WindowSums s;
    s.n[COUNTED] = own;
    s.n[FIXED] = own * fixed;
    s.n[FIXED_SQUARE] = own * fixed * fixed;
    s.n[SEEN] = own * moving;
    s.n[SEEN_SQUARE] = own * moving * moving;
    s.n[BOTH] = own * fixed * moving;
    return s;
}

SEGREG_BODY WindowSums load_window(const float* sums, Index cells, Index cell) {
    const WindowSums s = {{sums[cell], sums[cells + cell], sums[2 * cells + cell],
                           sums[3 * cells + cell], sums[4 * cells + cell],
                           sums[5 * cells + cell]}};
    return s;
}

// Means from sums that were smoothed alike.
SEGREG_BODY Window window_of(const WindowSums& s) {
    const float scale = s.n[COUNTED] > 1e-6f ? 1.0f / s.n[COUNTED] : 0.0f;
    const Window w = {scale * s.n[FIXED], scale * s.n[FIXED_SQUARE], scale * s.n[SEEN],
                      scale * s.n[SEEN_SQUARE], scale * s.n[BOTH]};
    return w;
}

// The normal equations of one voxel in its cell's window: of the image, and with OUTLINES of the
// outline, whose look-ups cost twice as much.
template <bool OUTLINES>
SEGREG_BODY Normal cell_normal(const MovingSide& moving, Vector p, float fixed, int region,
                               float fixed_distance, const Window& window, Vector unit,
                               const Tolerance& tolerance, const EquationWeights& weights) {
    const Corners c = corners(moving.grid, p);
    const CornerIndices i = corner_indices(c);
    const Sample image = image_at(moving, p, c, i, unit);
    Normal sum = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
    add_equation(sum, correlate(fixed, image.value, image.slope, window, weights.floor),
                 weights.image);
    if (OUTLINES) {
        const Sample off =
            outline_at(moving, p, c, i, region, fixed_distance, unit, tolerance);
        const Equation outline = {off.slope, off.value};
        add_equation(sum, outline, weights.outline);
    }
    return sum;
}

}  // namespace segreg
