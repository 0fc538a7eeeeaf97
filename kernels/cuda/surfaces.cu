// Outlines on the GPU: one thread a voxel.
#include "surfaces.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void outline(int64 size, const int* regions, int depth, int height,
                                   int width, short* outlines) {
    const Grid grid = {depth, height, width};
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const int x = run.x + i * run.step;
        const Index index = index_of(run, i);
        const bool edge = at_border(grid, run.z, run.y, x) ||
                          differs_at(regions, grid, run.z, run.y, x, index);
        outlines[index] = edge ? (short)regions[index] : (short)0;
    });
}

extern "C" __global__ void near_surfaces(int64 size, const short* outline, const short* others,
                                         int depth, int height, int width, const int* offsets,
                                         const int* steps, const int* bins, int offset_count,
                                         const int* reach, int count, int tables, int64* counts,
                                         unsigned char* distant) {
    const Grid grid = {depth, height, width};
    const Surroundings around = surroundings_of(offsets, steps, bins, offset_count, reach);
    const Index entries = (Index)(count + 1) * (bins[offset_count] + 1);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i);
        if (!outline[index]) return;
        // Neighbouring threads count into different tables: they seldom wait for each other.
        count_near(others, grid, around, outline[index], run.z, run.y, run.x + i * run.step,
                   counts + index % tables * entries, distant + index);
    });
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
