// Steps of a refinement on the GPU: one thread a voxel.
#include "matching.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void match_sides(
    int64 size, const float* moving, const int* moving_words, const float* moving_distances,
    int moving_depth, int moving_height, int moving_width, Affine affine, const float* fixed,
    const int* fixed_words, const float* fixed_distances, const float* displacement, int depth,
    int height, int width, float unit_z, float unit_y, float unit_x, float margin, float slack,
    float rest, float beyond, float* matches) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    const MovingSide side = {moving, moving_words, moving_distances,
                             {moving_depth, moving_height, moving_width}, affine};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    const Tolerance tolerance = {margin, slack, rest, beyond};
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i);
        const Vector p =
            moving_position(affine, displacement, voxels, index, voxel_of(run, i));
        store_match(matches, voxels, index, fixed[index],
                    match_at(side, p, own_region(fixed_words[index]), fixed_distances[index],
                             unit, tolerance));
    });
}

extern "C" __global__ void take_step(int64 size, const float* normals, int depth, int height,
                                     int width, float damping, float longest, float unit_z,
                                     float unit_y, float unit_x, float* displacement) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i);
        const Vector step = solve_step(load_normal(normals, voxels, index), damping, longest);
        move_by(displacement, voxels, index, step, unit);
    });
}

extern "C" __global__ void add_change(int64 size, const float* change, const int* coarse,
                                      int coarse_depth, int coarse_height, int coarse_width,
                                      Affine to_coarse, float unit_z, float unit_y, float unit_x,
                                      const int* regions, int depth, int height, int width,
                                      float* displacement) {
    const Grid grid = {depth, height, width};
    const Grid cells = {coarse_depth, coarse_height, coarse_width};
    const Index voxels = voxels_of(grid);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i);
        const Vector v = change_at(change, coarse, cells, apply(to_coarse, voxel_of(run, i)),
                                   regions[index]);
        move_by(displacement, voxels, index, v, make_vector(unit_z, unit_y, unit_x));
    });
}
