// Distances and fusion on the GPU: one thread a voxel, the first distance pass one thread a row.
#include "fusion.cuh"

using namespace segreg;

extern "C" __global__ void distance_rows(int64 size, const unsigned char* mask, int length,
                                         const float* spacing, int rows_each, float* squares) {
    const int64 row = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= size) return;
    distance_row(mask + row * length, length, spacing[3 * (row / rows_each) + 2],
                 squares + row * length);
}

extern "C" __global__ void distance_axis(int64 size, const float* squares, int depth, int height,
                                         int width, const float* spacing, int axis, int root,
                                         float* distances) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Place p = place_of(item, {depth, height, width});
    const int position = axis == 0 ? p.z : p.y;
    const int length = axis == 0 ? depth : height;
    const int64 stride = axis == 0 ? (int64)height * width : width;
    const float step = spacing[3 * p.batch + axis];
    const float* here = squares + item;
    float best = *here;
    for (int steps = 1; steps < length; ++steps) {
        const float d = (float)steps * step;
        if (d * d >= best) break;
        if (position >= steps) best = nearer(best, here[-steps * stride], steps, step);
        if (position + steps < length) best = nearer(best, here[steps * stride], steps, step);
    }
    distances[item] = root ? sqrtf(best) : best;
}

extern "C" __global__ void fuse_fields(int64 size, const int* regions, int depth, int height,
                                       int width, const float* fields, const float* distances,
                                       int count, int field_depth, int field_height,
                                       int field_width, const float* to_field,
                                       const float* to_voxel, const float* spacing,
                                       const float* background, int background_depth,
                                       int background_height, int background_width,
                                       const float* background_to_field,
                                       const float* background_to_voxel, float falloff,
                                       float* displacement) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid cells = {field_depth, field_height, field_width};
    const Place p = place_of(item, {depth, height, width});
    const Vector voxel = voxel_of(p);
    const int region = regions[item];
    if (region > 0 && region <= count) {
        const RegionMap map = region_map(region - 1, fields, distances, cells, to_field, to_voxel,
                                         spacing);
        store_vector(displacement, size, item, region_displacement(map, voxel));
        return;
    }
    const Grid coarse = {background_depth, background_height, background_width};
    Blend blend = begin_blend(
        background_map(background, coarse, background_to_field, background_to_voxel), voxel);
    for (int k = 0; k < count; ++k) {
        const RegionMap map = region_map(k, fields, distances, cells, to_field, to_voxel, spacing);
        if (!(row_excess(map, voxel.z, voxel.y) < falloff)) continue;
        const float distance = region_distance(map, voxel);
        if (!(distance < falloff)) continue;
        blend = blended(blend, shepard_weight(distance, falloff), region_displacement(map, voxel));
    }
    store_vector(displacement, size, item, blend_result(blend));
}
