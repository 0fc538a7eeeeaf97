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
struct AxisPlace {
    int position, length;
    Index stride;
};

SEGREG_BODY AxisPlace axis_place(const Run& run, Grid grid, int axis) {
    if (axis == 0) return {run.z, grid.depth, (Index)grid.height * grid.width};
    return {run.y, grid.height, grid.width};
}

extern "C" __global__ void distance_axis(int64 size, const float* squares, int depth, int height,
                                         int width, const float* spacing, float most_square,
                                         int axis, int root, float* distances) {
    const Grid grid = {depth, height, width};
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const AxisPlace a = axis_place(run, grid, axis);
        const float step = spacing[3 * run.batch + axis];
        const Index index = voxels_of(grid) * run.batch + index_of(run, i);
        const float* here = squares + index;
        float best = nearer(most_square, *here, 0, step);
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
                                               float most_square, int axis, int root,
                                               float* distances) {
    const Grid grid = {depth, height, width};
    for_each_quad(size, grid, [&](const Run& run) {
        const AxisPlace a = axis_place(run, grid, axis);
        const float step = spacing[3 * run.batch + axis];
        const Index index = voxels_of(grid) * run.batch + run.row + run.x;
        const float* here = squares + index;
        Quad best = load_quad(here);
        for (int i = 0; i < 4; ++i) best.v[i] = nearer(most_square, best.v[i], 0, step);
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

extern "C" __global__ void least_of_rows(int64 size, const float* distances, int width,
                                         float* least) {
    const int64 row = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= size) return;
    least[row] = least_of_row(distances + row * width, width);
}

extern "C" __global__ void find_candidates(int64 size, int height, const float* least, int count,
                                           int field_depth, int field_height,
                                           const float* to_field, const float* to_voxel,
                                           const float* spacing, const float* farthest, int words,
                                           int* candidates) {
    const int64 row = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= size) return;
    const float z = (float)(row / height), y = (float)(row % height);
    const Grid shadow = {field_depth, field_height, 1};
    for (int word = 0; word < words; ++word) {
        unsigned bits = 0;
        for (int k = 32 * word; k < count && k < 32 * word + 32; ++k) {
            const RegionMap map = region_map(k, least, least, shadow, to_field, to_voxel, spacing);
            if (row_reaches(map, z, y, farthest[k])) bits |= 1u << (k % 32);
        }
        candidates[row * words + word] = (int)bits;
    }
}

// Everything that one voxel's blend is made from.
struct Fusion {
    const float *fields, *distances;
    Grid cells;
    const float *to_field, *to_voxel, *spacing;
    int count, words;
    const int* candidates;  // of the voxel's row
    const float *falloff, *reach;
};

SEGREG_BODY RegionMap map_of(const Fusion& f, int k) {
    return region_map(k, f.fields, f.distances, f.cells, f.to_field, f.to_voxel, f.spacing);
}

SEGREG_BODY bool is_candidate(const Fusion& f, int k) {
    return ((unsigned)f.candidates[k / 32] >> (k % 32)) & 1u;
}

// The map of region k, feathered into those of its partners.
SEGREG_BODY Vector feathered_displacement(const Fusion& f, int k, Vector voxel) {
    Vector sum = region_displacement(map_of(f, k), voxel);
    if (!f.reach) return sum;
    float weight = 1.0f;
    for (int j = 0; j < f.count; ++j) {
        const float reach = f.reach[(Index)k * f.count + j];
        if (j == k || !(reach > 0.0f) || !is_candidate(f, j)) continue;
        const RegionMap map = map_of(f, j);
        const float distance = region_distance(map, voxel);
        if (!(distance < reach)) continue;
        const float w = feather(distance, reach);
        sum = weighted_sum(sum, w, region_displacement(map, voxel));
        weight += w;
    }
    return scaled(1.0f / weight, sum);
}

// The background's map, with those of the regions near enough.
SEGREG_BODY Vector background_displacement(const Fusion& f, const RegionMap& background,
                                           Vector voxel) {
    Vector sum = region_displacement(background, voxel);
    float weight = 1.0f;
    for (int word = 0; word < f.words; ++word) {
        for (unsigned bits = (unsigned)f.candidates[word]; bits; bits &= bits - 1) {
            const int k = 32 * word + lowest_bit(bits);
            const float distance = region_distance(map_of(f, k), voxel);
            if (!(distance < f.falloff[k])) continue;
            const float w = shepard_weight(distance, f.falloff[k]);
            sum = weighted_sum(sum, w, feathered_displacement(f, k, voxel));
            weight += w;
        }
    }
    return scaled(1.0f / weight, sum);
}

extern "C" __global__ void fuse_fields(int64 size, const int* regions, int depth, int height,
                                       int width, const float* fields, const float* distances,
                                       int count, int field_depth, int field_height,
                                       int field_width, const float* to_field,
                                       const float* to_voxel, const float* spacing,
                                       const float* background, int background_depth,
                                       int background_height, int background_width,
                                       const float* background_to_field,
                                       const float* background_to_voxel, const float* falloff,
                                       const float* reach, int words, const int* candidates,
                                       float* displacement) {
    const Fusion f = {fields, distances, {field_depth, field_height, field_width},
                      to_field, to_voxel, spacing, count, words, nullptr, falloff, reach};
    const Grid grid = {depth, height, width};
    const Grid coarse = {background_depth, background_height, background_width};
    const Index voxels = voxels_of(grid);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        Fusion here = f;
        here.candidates = candidates + (Index)(run.z * height + run.y) * words;
        const Vector voxel = voxel_of(run, i);
        const Index index = index_of(run, i);
        const int region = regions[index];
        const Vector u = region > 0 && region <= count
                             ? feathered_displacement(here, region - 1, voxel)
                             : background_displacement(
                                   here, background_map(background, coarse, background_to_field,
                                                        background_to_voxel), voxel);
        store_vector(displacement, voxels, index, u);
    });
}
