// Distances and fusion on the GPU; the first distance pass is one thread a row.
#include "fusion.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void distance_rows(int64 size, const unsigned char* mask, int length,
                                         const float* spacing, int rows_each, float* squares) {
    const int64 row = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= size) return;
    distance_row(mask + row * length, length, spacing[3 * (row / rows_each) + 2],
                 squares + row * length);
}

// What the two forms of distance_axis share: the axis' place, length and stride.
struct Axis {
    int position, length;
    Index stride;
};

SEGREG_BODY Axis axis_of(const Run& run, Grid grid, int axis) {
    if (axis == 0) return {run.z, grid.depth, (Index)grid.height * grid.width};
    return {run.y, grid.height, grid.width};
}

extern "C" __global__ void distance_axis(int64 size, const float* squares, int depth, int height,
                                         int width, const float* spacing, int axis, int root,
                                         float* distances) {
    const Grid grid = {depth, height, width};
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Axis a = axis_of(run, grid, axis);
        const float step = spacing[3 * run.batch + axis];
        const Index index = voxels_of(grid) * run.batch + index_of(run, i);
        const float* here = squares + index;
        float best = *here;
        for (int steps = 1; steps < a.length; ++steps) {
            const float d = (float)steps * step;
            if (d * d >= best) break;
            const Index way = steps * a.stride;
            if (a.position >= steps) best = nearer(best, here[-way], steps, step);
            if (a.position + steps < a.length) best = nearer(best, here[way], steps, step);
        }
        distances[index] = root ? sqrtf(best) : best;
    });
}

SEGREG_BODY Quad nearer_quad(Quad best, const Quad& squares, int steps, float spacing) {
    for (int i = 0; i < 4; ++i) best.v[i] = nearer(best.v[i], squares.v[i], steps, spacing);
    return best;
}

extern "C" __global__ void distance_axis_quads(int64 size, const float* squares, int depth,
                                               int height, int width, const float* spacing,
                                               int axis, int root, float* distances) {
    const Grid grid = {depth, height, width};
    for_each_quad(size, grid, [&](const Run& run) {
        const Axis a = axis_of(run, grid, axis);
        const float step = spacing[3 * run.batch + axis];
        const Index index = voxels_of(grid) * run.batch + run.row + run.x;
        const float* here = squares + index;
        Quad best = load_quad(here);
        for (int steps = 1; steps < a.length; ++steps) {
            const float d = (float)steps * step;
            float farthest = best.v[0];
            for (int i = 1; i < 4; ++i) farthest = best.v[i] > farthest ? best.v[i] : farthest;
            if (d * d >= farthest) break;
            const Index way = steps * a.stride;
            if (a.position >= steps) best = nearer_quad(best, load_quad(here - way), steps, step);
            if (a.position + steps < a.length) {
                best = nearer_quad(best, load_quad(here + way), steps, step);
            }
        }
        for (int i = 0; root && i < 4; ++i) best.v[i] = sqrtf(best.v[i]);
        store_quad(distances + index, best);
    });
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
    const Grid grid = {depth, height, width};
    const Grid cells = {field_depth, field_height, field_width};
    const Grid coarse = {background_depth, background_height, background_width};
    const Index voxels = voxels_of(grid);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Vector voxel = voxel_of(run, i);
        const Index index = index_of(run, i);
        const int region = regions[index];
        if (region > 0 && region <= count) {
            const RegionMap map = region_map(region - 1, fields, distances, cells, to_field,
                                             to_voxel, spacing);
            store_vector(displacement, voxels, index, region_displacement(map, voxel));
            return;
        }
        Blend blend = begin_blend(
            background_map(background, coarse, background_to_field, background_to_voxel), voxel);
        for (int k = 0; k < count; ++k) {
            const RegionMap map =
                region_map(k, fields, distances, cells, to_field, to_voxel, spacing);
            if (!(row_excess(map, voxel.z, voxel.y) < falloff)) continue;
            const float distance = region_distance(map, voxel);
            if (!(distance < falloff)) continue;
            blend = blended(blend, shepard_weight(distance, falloff),
                            region_displacement(map, voxel));
        }
        store_vector(displacement, voxels, index, blend_result(blend));
    });
}
