// Outlines on the GPU: one thread a voxel.
#include "surfaces.cuh"

using namespace segreg;

extern "C" __global__ void outline(int64 size, const int* regions, int depth, int height,
                                   int width, short* outlines) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const Place p = place_of(item, grid);
    const bool edge = at_border(grid, p.z, p.y, p.x) ||
                      differs_at(regions, grid, p.z, p.y, p.x, item);
    outlines[item] = edge ? (short)regions[item] : (short)0;
}

extern "C" __global__ void near_surfaces(int64 size, const short* outline, const short* others,
                                         int depth, int height, int width, const int* offsets,
                                         const int* steps, const int* bins, int offset_count,
                                         const int* reach, int count, int tables, int64* counts,
                                         unsigned char* distant) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size || !outline[item]) return;
    const Grid grid = {depth, height, width};
    const Place p = place_of(item, grid);
    // Neighbouring threads count into different tables, so that they seldom wait for each other.
    const int64 entries = (int64)(count + 1) * (bins[offset_count] + 1);
    count_near(others, grid, surroundings_of(offsets, steps, bins, offset_count, reach),
               outline[item], p.z, p.y, p.x, counts + item % tables * entries, distant + item);
}

extern "C" __global__ void far_surfaces(int64 size, const int* voxels, const short* outline,
                                        const short* others, int depth, int height, int width,
                                        const int* boxes, const float* spacing, float* squares) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const Place p = place_of(voxels[item], grid);
    const int region = outline[voxels[item]];
    squares[item] = far_square(others, grid, boxes + 6 * region, region,
                               make_vector(spacing[0], spacing[1], spacing[2]), p.z, p.y, p.x);
}
