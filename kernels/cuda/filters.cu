// Filters on the GPU: one thread a voxel. The launches take one axis at a time: nested sums would
// cost more than the passes over memory.
#include "filters.cuh"

using namespace segreg;

extern "C" __global__ void filter(int64 size, const float* volume, int depth, int height,
                                  int width, const float* weights, int radius_z, int radius_y,
                                  int radius_x, int mirror, float* result) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const Place p = place_of(item, grid);
    const Filter f = make_filter(weights, radius_z, radius_y, radius_x, mirror);
    result[item] = filtered(volume + voxels_of(grid) * p.batch, grid, f, p.z, p.y, p.x);
}
