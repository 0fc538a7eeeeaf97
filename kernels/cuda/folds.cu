// Folds on the GPU: finding them one thread a voxel, opening them one thread a voxel of a phase.
#include "folds.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void mark_folds(int64 size, const float* displacement, int depth, int height,
                                      int width, const unsigned char* worked,
                                      const unsigned char* worked_rows, float threshold,
                                      unsigned char* folds, unsigned char* rows) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    const Marks marks = {worked, worked_rows};
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const int x = run.x + i * run.step;
        const Index index = index_of(run, i);
        const Place p = {run.batch, run.z, run.y, x, (int)index};
        bool folded = false;
        if (!worked ||
            (rows_nearby(marks, grid, run.batch, run.z, run.y) && marked_nearby(marks, grid, p))) {
            folded = determinant(displacement + 3 * voxels * run.batch, voxels, index,
                                 difference(run.z, depth, (Index)height * width),
                                 difference(run.y, height, width),
                                 difference(x, width, 1)) <= threshold;
        }
        folds[voxels * run.batch + index] = folded;
        // All who write here write the same.
        if (folded) rows[(run.batch * depth + run.z) * height + run.y] = 1;
    });
}

extern "C" __global__ void open_folds(int64 size, const unsigned char* folds,
                                      const unsigned char* rows, int depth, int height, int width,
                                      const float* freedom, const float* ease, float threshold,
                                      float target, float overstep, float longest, int phase,
                                      float* displacement) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    const int each = (width + SEGREG_PHASES - 1) / SEGREG_PHASES;
    const Opening opening = {make_vector(ease[0], ease[1], ease[2]), threshold, target, overstep,
                             longest};
    for_each_voxel(size, {depth, height, each}, [&](const Run& run, int i) {
        const Index row = (run.batch * depth + run.z) * height + run.y;
        const int x = first_of_phase(run.z, run.y, phase) +
                      SEGREG_PHASES * (run.x + i * run.step);
        if (!rows[row] || x >= width || !folds[row * width + x]) return;
        open_fold(displacement + 3 * voxels * run.batch, voxels, grid,
                  freedom ? freedom + run.batch * voxels : freedom, run.z, run.y, x, opening);
    });
}
