// Equations of cells on the GPU: one thread a cell.
#include "cells.cuh"
#include "threads.cuh"

using namespace segreg;

namespace {

// Calls body(voxel, index) for the voxels of a cell that belong to `region`.
template <typename Body>
SEGREG_BODY void for_each_of_cell(const Cells& cells, Grid grid, const int* words, int region,
                                  int cz, int cy, int cx, const Body& body) {
    const int z_end = cell_end(cz, cells.grid.depth, cells.factor_z, grid.depth);
    const int y_end = cell_end(cy, cells.grid.height, cells.factor_y, grid.height);
    const int x_end = cell_end(cx, cells.grid.width, cells.factor_x, grid.width);
    for (int z = cell_begin(cz, cells.factor_z); z < z_end; ++z) {
        for (int y = cell_begin(cy, cells.factor_y); y < y_end; ++y) {
            for (int x = cell_begin(cx, cells.factor_x); x < x_end; ++x) {
                const Index index = ((Index)z * grid.height + y) * grid.width + x;
                if (own_region(words[index]) != region) continue;
                body(make_vector((float)z, (float)y, (float)x), index);
            }
        }
    }
}

}  // namespace

extern "C" __global__ void cell_windows(int64 size, const float* moving, int moving_depth,
                                        int moving_height, int moving_width, Affine affine,
                                        const float* fixed, const int* words,
                                        const float* displacement, int depth, int height,
                                        int width, const int* regions, int cell_depth,
                                        int cell_height, int cell_width, int factor_z,
                                        int factor_y, int factor_x, float* sums) {
    const Grid grid = {depth, height, width};
    const Grid seen = {moving_depth, moving_height, moving_width};
    const Cells cells = {{cell_depth, cell_height, cell_width}, factor_z, factor_y, factor_x};
    const Index voxels = voxels_of(grid), count = voxels_of(cells.grid);
    for_each_voxel(size, cells.grid, [&](const Run& run, int i) {
        const Index cell = index_of(run, i);
        WindowSums sum = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
        for_each_of_cell(cells, grid, words, regions[cell], run.z, run.y, run.x + i * run.step,
                         [&](Vector voxel, Index index) {
            const Vector p = moving_position(affine, displacement, voxels, index, voxel);
            const WindowSums w =
                window_at(fixed[index], interpolate(moving, corners(seen, p)), true);
            for (int c = 0; c < WINDOW_CHANNELS; ++c) sum.n[c] += w.n[c];
        });
        for (int c = 0; c < WINDOW_CHANNELS; ++c) {
            sums[c * count + cell] = cell_share(cells) * sum.n[c];
        }
    });
}

extern "C" __global__ void cell_normals(
    int64 size, const float* moving, const int* moving_words, const float* moving_distances,
    int moving_depth, int moving_height, int moving_width, Affine affine, const float* fixed,
    const int* words, const float* distances, const float* displacement, int depth, int height,
    int width, float unit_z, float unit_y, float unit_x, float margin, float slack, float rest,
    float beyond, float image_weight, float outline_weight, float floor, const float* windows,
    const int* regions, int cell_depth, int cell_height, int cell_width, int factor_z,
    int factor_y, int factor_x, float* normals) {
    const Grid grid = {depth, height, width};
    const MovingSide side = {moving, moving_words, moving_distances,
                             {moving_depth, moving_height, moving_width}, affine};
    const Cells cells = {{cell_depth, cell_height, cell_width}, factor_z, factor_y, factor_x};
    const Index voxels = voxels_of(grid), count = voxels_of(cells.grid);
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    const Tolerance tolerance = {margin, slack, rest, beyond};
    const EquationWeights weights = {image_weight, outline_weight, floor};
    const bool outlines = outline_weight > 0.0f;  // the same for all threads
    for_each_voxel(size, cells.grid, [&](const Run& run, int i) {
        const Index cell = index_of(run, i);
        const Window window = window_of(load_window(windows, count, cell));
        Normal sum = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
        for_each_of_cell(cells, grid, words, regions[cell], run.z, run.y, run.x + i * run.step,
                         [&](Vector voxel, Index index) {
            const Vector p = moving_position(affine, displacement, voxels, index, voxel);
            const Normal n =
                outlines ? cell_normal<true>(side, p, fixed[index], regions[cell],
                                             distances[index], window, unit, tolerance, weights)
                         : cell_normal<false>(side, p, fixed[index], regions[cell],
                                              distances[index], window, unit, tolerance, weights);
            for (int c = 0; c < 9; ++c) sum.n[c] += n.n[c];
        });
        store_normal(normals, count, cell, cell_share(cells), sum);
    });
}
