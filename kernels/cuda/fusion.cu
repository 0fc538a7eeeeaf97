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
        const float reach = f.reach[(int64)k * f.count + j];
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
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Fusion f = {fields, distances, {field_depth, field_height, field_width},
                      to_field, to_voxel, spacing, count, words,
                      candidates + item / width * words, falloff, reach};
    const Vector voxel = voxel_of(place_of(item, {depth, height, width}));
    const int region = regions[item];
    if (region > 0 && region <= count) {
        store_vector(displacement, size, item, feathered_displacement(f, region - 1, voxel));
        return;
    }
    const Grid coarse = {background_depth, background_height, background_width};
    Vector sum = region_displacement(
        background_map(background, coarse, background_to_field, background_to_voxel), voxel);
    float weight = 1.0f;
    for (int word = 0; word < words; ++word) {
        for (unsigned bits = (unsigned)f.candidates[word]; bits; bits &= bits - 1) {
            const int k = 32 * word + lowest_bit(bits);
            const float distance = region_distance(map_of(f, k), voxel);
            if (!(distance < falloff[k])) continue;
            const float w = shepard_weight(distance, falloff[k]);
            sum = weighted_sum(sum, w, feathered_displacement(f, k, voxel));
            weight += w;
        }
    }
    store_vector(displacement, size, item, scaled(1.0f / weight, sum));
}
