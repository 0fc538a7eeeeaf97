// Filters on the GPU: one thread a voxel. The launches take one axis at a time: nested sums would
// cost more than the passes over memory.
#include "filters.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void filter(int64 size, const float* volume, int depth, int height,
                                  int width, const float* weights, int radius_z, int radius_y,
                                  int radius_x, int mirror, float* result) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    const Filter f = make_filter(weights, radius_z, radius_y, radius_x, mirror);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        result[voxels * run.batch + index_of(run, i)] =
            filtered(volume + voxels * run.batch, grid, f, run.z, run.y, run.x + i * run.step);
    });
}
