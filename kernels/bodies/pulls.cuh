// Pulls of outlines: one equation a voxel, and the step that those around it ask for.
#pragma once

#include "matching.cuh"

namespace segreg {

// A pull is the slope (z, y, x) of how far an outline is off, and how far: the voxel's equation. Its
// sign is turned so that the last is 0 or more.
constexpr int PULL_CHANNELS = 4;

SEGREG_BODY void store_pull(float* pulls, Index voxels, Index index, const Sample& off) {
    const float sign = off.value < 0.0f ? -1.0f : 1.0f;
    store_vector(pulls, voxels, index, scaled(sign, off.slope));
    pulls[3 * voxels + index] = sign * off.value;
}

SEGREG_BODY Equation load_pull(const float* pulls, Index voxels, Index index) {
    Equation e;
    e.slope = load_vector(pulls, voxels, index);
    e.residual = pulls[3 * voxels + index];
    return e;
}

SEGREG_BODY void add_normal(Normal& sum, const Normal& part, float weight) {
    SEGREG_UNROLL
    for (int c = 0; c < 9; ++c) sum.n[c] += weight * part.n[c];
}

SEGREG_BODY Normal no_normal() {
    const Normal none = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
    return none;
}

// Normal equations of the pulls around a voxel: means along z, of these along y, of these along x.
SEGREG_BODY Normal pulled_normal(const float* pulls, const float* edges, Grid grid,
                                 const Filter& f, int z, int y, int x) {
    const Index voxels = voxels_of(grid), here = ((Index)z * grid.height + y) * grid.width + x;
    const Line along_z = line_of(grid, 0, z, y, x), along_y = line_of(grid, 1, z, y, x);
    Normal all = no_normal();
    const float across = visit_within(
        edges + 2 * voxels, here, line_of(grid, 2, z, y, x), f.x, 0, [&](Index column, float w) {
            Normal plane = no_normal();
            const float up = visit_within(
                edges + voxels, column, along_y, f.y, 0, [&](Index row, float v) {
                    Normal line = no_normal();
                    const float deep = visit_within(
                        edges, row, along_z, f.z, 0, [&](Index at, float u) {
                            add_equation(line, load_pull(pulls, voxels, at), u);
                        });
                    add_normal(plane, line, v / deep);
                });
            add_normal(all, plane, w / up);
        });
    Normal mean = no_normal();
    add_normal(mean, all, 1.0f / across);
    return mean;
}

}  // namespace segreg
