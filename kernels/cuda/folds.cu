// Folds on the GPU: finding them one thread a voxel, opening them one thread a voxel of a phase.
#include "folds.cuh"

using namespace segreg;

extern "C" __global__ void mark_folds(int64 size, const float* displacement, int depth, int height,
                                      int width, const unsigned char* worked,
                                      const unsigned char* worked_rows, float threshold,
                                      unsigned char* folds, unsigned char* rows) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const Place p = place_of(item, grid);
    bool folded = false;
    const Marks marks = {worked, worked_rows};
    if (!worked || (rows_nearby(marks, grid, p.batch, p.z, p.y) && marked_nearby(marks, grid, p))) {
        folded = determinant(displacement + 3 * voxels * p.batch, voxels, p.index,
                             difference(p.z, depth, (int64)height * width),
                             difference(p.y, height, width),
                             difference(p.x, width, 1)) <= threshold;
    }
    folds[item] = folded;
    if (folded) rows[item / width] = 1;  // all who write here write the same
}

extern "C" __global__ void open_folds(int64 size, const unsigned char* folds,
                                      const unsigned char* rows, int depth, int height, int width,
                                      const float* freedom, const float* ease, float threshold,
                                      float target, float overstep, float longest, int phase,
                                      float* displacement) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const int each = (width + SEGREG_PHASES - 1) / SEGREG_PHASES;
    const Place p = place_of(item, {depth, height, each});
    if (!rows[item / each]) return;
    const int x = first_of_phase(p.z, p.y, phase) + SEGREG_PHASES * p.x;
    if (x >= width) return;
    const int64 index = ((int64)p.z * height + p.y) * width + x;
    if (!folds[p.batch * voxels + index]) return;
    const Opening opening = {make_vector(ease[0], ease[1], ease[2]), threshold, target, overstep,
                             longest};
    open_fold(displacement + 3 * voxels * p.batch, voxels, grid,
              freedom ? freedom + p.batch * voxels : freedom, p.z, p.y, x, opening);
}
