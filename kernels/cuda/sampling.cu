// Warps on the GPU: one thread a fixed voxel; counting pairs of labels: one thread a fixed row.
#include "labels.cuh"
#include "splines.cuh"

using namespace segreg;

extern "C" __global__ void warp(int64 size, const float* moving, int channels, int moving_depth,
                                int moving_height, int moving_width, const float* displacement,
                                int depth, int height, int width, const float* affine, int nearest,
                                float outside, float* warped) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {moving_depth, moving_height, moving_width};
    const Grid fixed = {depth, height, width};
    const int64 moving_voxels = voxels_of(grid), voxels = voxels_of(fixed);
    const Place place = place_of(item, fixed);
    const Vector p = moving_position(load_affine(affine), displacement + 3 * voxels * place.batch,
                                     voxels, place.index, voxel_of(place));
    const bool inside = lies_inside(grid, p);
    const Corners around = corners(grid, p);
    const int voxel = nearest_index(grid, p);
    for (int c = 0; c < channels; ++c) {
        const int64 plane = place.batch * channels + c;
        const float* source = moving + plane * moving_voxels;
        float value = outside;
        if (inside) value = nearest ? source[voxel] : interpolate(source, around);
        warped[plane * voxels + place.index] = value;
    }
}

extern "C" __global__ void warp_cubic(int64 size, const float* coefficients, int channels,
                                      int moving_depth, int moving_height, int moving_width,
                                      const float* displacement, int depth, int height, int width,
                                      const float* affine, float outside, float* warped) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {moving_depth, moving_height, moving_width};
    const Grid fixed = {depth, height, width};
    const int64 moving_voxels = voxels_of(grid), voxels = voxels_of(fixed);
    const Place place = place_of(item, fixed);
    const Vector p = moving_position(load_affine(affine), displacement + 3 * voxels * place.batch,
                                     voxels, place.index, voxel_of(place));
    const bool inside = lies_inside(grid, p);
    for (int c = 0; c < channels; ++c) {
        const int64 plane = place.batch * channels + c;
        const float* source = coefficients + plane * moving_voxels;
        warped[plane * voxels + place.index] =
            inside ? interpolate_cubic(source, grid, p) : outside;
    }
}

extern "C" __global__ void warp_labels(int64 size, const int* labels, int moving_depth,
                                       int moving_height, int moving_width,
                                       const float* displacement, int depth, int height,
                                       int width, const float* affine, int nearest,
                                       int* warped) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid fixed = {depth, height, width};
    const Vector p = moving_position(load_affine(affine), displacement, voxels_of(fixed), item,
                                     voxel_of(place_of(item, fixed)));
    warped[item] = label_at(labels, {moving_depth, moving_height, moving_width}, p, nearest);
}

extern "C" __global__ void overlap(int64 size, const int* moving, int moving_depth,
                                   int moving_height, int moving_width, const int* fixed,
                                   const float* displacement, int depth, int height, int width,
                                   const float* affine, int nearest, int count, int tables,
                                   int64* confusion) {
    const int64 row = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= size) return;
    const Grid grid = {moving_depth, moving_height, moving_width};
    const Grid fixed_grid = {depth, height, width};
    const Affine to_moving = load_affine(affine);
    const int64 voxels = voxels_of(fixed_grid);
    // Neighbouring threads count into different tables, so that they seldom wait for each other.
    const int64 entries = (int64)(count + 1) * (count + 1) + 1;
    Pairs pairs = {count, confusion + row % tables * entries, 0, 0};
    for (int64 item = row * width; item < (row + 1) * width; ++item) {
        const Vector p = moving_position(to_moving, displacement, voxels, item,
                                         voxel_of(place_of(item, fixed_grid)));
        count_pair(pairs, fixed[item], label_at(moving, grid, p, nearest));
    }
    finish(pairs);
}
