// Pulls of outlines, the steps they ask for, and where any is left, on the GPU: one thread a voxel,
// or a block.
#include "blocks.cuh"
#include "pulls.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void outline_pulls(
    int64 size, const int* moving_words, const float* moving_distances, int moving_depth,
    int moving_height, int moving_width, Affine affine, const int* fixed_words,
    const float* fixed_distances, const float* displacement, int depth, int height, int width,
    float unit_z, float unit_y, float unit_x, float margin, float slack, float rest, float beyond,
    const unsigned char* marks, float* pulls) {
    const Grid grid = {depth, height, width}, all = blocks_of(grid);
    const Index voxels = voxels_of(grid);
    const MovingSide side = {nullptr, moving_words, moving_distances,
                             {moving_depth, moving_height, moving_width}, affine};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    const Tolerance tolerance = {margin, slack, rest, beyond};
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        if (marks && !marks[block_at(all, run.z, run.y, run.x + i * run.step)]) return;
        const Index index = index_of(run, i);
        const Vector p = moving_position(affine, displacement, voxels, index, voxel_of(run, i));
        const Corners c = corners(side.grid, p);
        store_pull(pulls, voxels, index,
                   outline_at(side, p, c, corner_indices(c), own_region(fixed_words[index]),
                              fixed_distances[index], unit, tolerance));
    });
}

extern "C" __global__ void follow_pulls(int64 size, const float* pulls, const float* edges,
                                        int depth, int height, int width, const float* weights,
                                        int radius_z, int radius_y, int radius_x, float damping,
                                        float longest, float unit_z, float unit_y, float unit_x,
                                        const unsigned char* marks, float* displacement) {
    const Grid grid = {depth, height, width}, all = blocks_of(grid);
    const Index voxels = voxels_of(grid);
    const Filter f = make_filter(weights, radius_z, radius_y, radius_x, 0);
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const int x = run.x + i * run.step;
        if (marks && !marks[block_at(all, run.z, run.y, x)]) return;
        const Normal n = pulled_normal(pulls, edges, grid, f, run.z, run.y, x);
        move_by(displacement, voxels, index_of(run, i), solve_step(n, damping, longest), unit);
    });
}

extern "C" __global__ void mark_blocks(int64 size, const float* errors, int depth, int height,
                                       int width, int rim, float bound, unsigned char* marks) {
    const Grid grid = {depth, height, width}, all = blocks_of(grid);
    for_each_voxel(size, all, [&](const Run& run, int i) {
        const Box box = box_of(grid, run.z, run.y, run.x + i * run.step, rim);
        marks[index_of(run, i)] = any_above(errors, grid, box, bound);
    });
}
