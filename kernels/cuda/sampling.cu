// Warps on the GPU, and counting pairs of labels.
#include "labels.cuh"
#include "splines.cuh"
#include "threads.cuh"

using namespace segreg;

// Where the voxels of a run look in the moving grid.
struct RunPositions {
    Vector p[RUN];
};

SEGREG_BODY RunPositions positions_of(const Run& run, const float* displacement,
                                             Index voxels, const Affine& affine) {
    RunPositions positions;
#pragma unroll
    for (int i = 0; i < RUN; ++i) {
        if (!holds(run, i)) break;
        positions.p[i] =
            moving_position(affine, displacement, voxels, index_of(run, i), voxel_of(run, i));
    }
    return positions;
}

extern "C" __global__ void warp(int64 size, const float* moving, int channels, int moving_depth,
                                int moving_height, int moving_width, const float* displacement,
                                int depth, int height, int width, Affine affine, int nearest,
                                float outside, float* warped) {
    const Grid grid = {moving_depth, moving_height, moving_width};
    const Grid fixed = {depth, height, width};
    const Index moving_voxels = voxels_of(grid), voxels = voxels_of(fixed);
    for_each_run(size, fixed, [&](const Run& run) {
        const RunPositions positions =
            positions_of(run, displacement + 3 * voxels * run.batch, voxels, affine);
#pragma unroll
        for (int i = 0; i < RUN; ++i) {
            if (!holds(run, i)) break;
            const Vector p = positions.p[i];
            const bool inside = lies_inside(grid, p);
            const Corners around = corners(grid, p);
            const int voxel = nearest_index(grid, p);
            for (int c = 0; c < channels; ++c) {
                const Index plane = run.batch * channels + c;
                const float* source = moving + plane * moving_voxels;
                float value = outside;
                if (inside) value = nearest ? source[voxel] : interpolate(source, around);
                warped[plane * voxels + index_of(run, i)] = value;
            }
        }
    });
}

extern "C" __global__ void warp_cubic(int64 size, const float* coefficients, int channels,
                                      int moving_depth, int moving_height, int moving_width,
                                      const float* displacement, int depth, int height, int width,
                                      Affine affine, float outside, float* warped) {
    const Grid grid = {moving_depth, moving_height, moving_width};
    const Grid fixed = {depth, height, width};
    const Index moving_voxels = voxels_of(grid), voxels = voxels_of(fixed);
    for_each_voxel(size, fixed, [&](const Run& run, int i) {
        const Vector p = moving_position(affine, displacement + 3 * voxels * run.batch, voxels,
                                         index_of(run, i), voxel_of(run, i));
        const bool inside = lies_inside(grid, p);
        for (int c = 0; c < channels; ++c) {
            const Index plane = run.batch * channels + c;
            const float* source = coefficients + plane * moving_voxels;
            warped[plane * voxels + index_of(run, i)] =
                inside ? interpolate_cubic(source, grid, p) : outside;
        }
    });
}

extern "C" __global__ void warp_labels(int64 size, const int* labels, int moving_depth,
                                       int moving_height, int moving_width,
                                       const float* displacement, int depth, int height,
                                       int width, Affine affine, int nearest, int* warped) {
    const Grid grid = {moving_depth, moving_height, moving_width};
    const Grid fixed = {depth, height, width};
    for_each_run(size, fixed, [&](const Run& run) {
        const RunPositions positions = positions_of(run, displacement, voxels_of(fixed), affine);
#pragma unroll
        for (int i = 0; i < RUN; ++i) {
            if (!holds(run, i)) break;
            warped[index_of(run, i)] = label_at(labels, grid, positions.p[i], nearest);
        }
    });
}

// A warp takes a row after the other, so that its threads see runs of equal pairs.
extern "C" __global__ void overlap(int64 size, const int* moving, int moving_depth,
                                   int moving_height, int moving_width, const int* fixed,
                                   const float* displacement, int depth, int height, int width,
                                   Affine affine, int nearest, int count, int tables,
                                   int64* confusion) {
    const Grid grid = {moving_depth, moving_height, moving_width};
    const Grid fixed_grid = {depth, height, width};
    const Index voxels = voxels_of(fixed_grid);
    const int64 entries = (int64)(count + 1) * (count + 1) + 1;
    // Blocks count into different tables, so that they seldom wait for each other.
    Pairs pairs = {count, confusion + blockIdx.x % (unsigned)tables * entries, 0, 0};
    for_each_row_of_warp(size, [&](int64 row) {
        const int z = (int)row / height, y = (int)row % height;
        for (int x = (int)threadIdx.x % 32; x < width; x += 32) {
            const Index index = (Index)row * width + x;
            const Vector p = moving_position(affine, displacement, voxels, index,
                                             make_vector((float)z, (float)y, (float)x));
            count_pair(pairs, fixed[index], label_at(moving, grid, p, nearest));
        }
    });
    finish(pairs);
}
