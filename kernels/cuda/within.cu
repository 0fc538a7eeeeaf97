// Means that stop where regions part, on the GPU: one thread a voxel, one axis a launch.
#include "threads.cuh"
#include "within.cuh"

using namespace segreg;

extern "C" __global__ void smooth_within(int64 size, const float* volume, const float* edges,
                                         int depth, int height, int width, const float* weights,
                                         int radius_z, int radius_y, int radius_x, int paired,
                                         float* result) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    const Filter f = make_filter(weights, radius_z, radius_y, radius_x, 0);
    // A launch filters one axis; the others have radius 0.
    const int axis = radius_z ? 0 : radius_y ? 1 : 2;
    const Taps taps = axis == 0 ? f.z : axis == 1 ? f.y : f.x;
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i), channel = voxels * run.batch;
        result[channel + index] =
            mean_within(volume + channel, edges ? edges + axis * voxels : nullptr, index,
                        line_of(grid, axis, run.z, run.y, run.x + i * run.step), taps, paired);
    });
}

extern "C" __global__ void couple(int64 size, const int* words, const float* displacement,
                                  int depth, int height, int width, float unit_z, float unit_y,
                                  float unit_x, float slip, float* edges) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i);
        for (int axis = 0; axis < 3; ++axis) {
            edges[axis * voxels + index] =
                edge_at(words, displacement, voxels, index,
                        line_of(grid, axis, run.z, run.y, run.x + i * run.step), unit, slip);
        }
    });
}

extern "C" __global__ void border_axis(int64 size, const int* words, const float* squares,
                                       int depth, int height, int width, int axis, float step,
                                       int radius, float farthest, int last, int* next_words,
                                       float* next) {
    const Grid grid = {depth, height, width};
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i);
        const Border b = nearest_border(
            words, squares, index, line_of(grid, axis, run.z, run.y, run.x + i * run.step), step,
            radius, farthest);
        next_words[index] = word_of(own_region(words[index]), b.other);
        next[index] = last ? sqrtf(b.square) : b.square;
    });
}
