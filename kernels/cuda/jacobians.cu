// Jacobian determinants by region on the GPU: one thread a table of sums or a slice.
#include "jacobians.cuh"

using namespace segreg;

extern "C" __global__ void jacobian_sums(int64 size, const int* regions, const float* jacobian,
                                         int depth, int height, int width, int count,
                                         int64* counts, double* sums) {
    const int64 table = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (table >= size) return;
    const Grid grid = {depth, height, width};
    const int64 rows = (int64)depth * height;
    for (int64 item = table * rows / size * width; item < (table + 1) * rows / size * width;
         ++item) {
        const Place p = place_of(item, grid);
        add_jacobian(regions[item], differs_at(regions, grid, p.z, p.y, p.x, item),
                     jacobian[item], count, counts + table * (count + 2) * JACOBIAN_COUNTS,
                     sums + table * (count + 2) * JACOBIAN_SUMS);
    }
}

extern "C" __global__ void count_folds(int64 size, const float* displacement, int cells,
                                       const float* masks, int channels, int channel, int side,
                                       int64* counts) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {cells, cells, cells};
    const int64 voxels = voxels_of(grid), canvas = (int64)side * side * side;
    const int64 k = item / cells;
    const int z = (int)(item % cells);
    for (int index = 0; index < cells * cells; ++index) {
        const int y = index / cells, x = index % cells;
        if (!inside_at(masks + (k * channels + channel) * canvas, side, side / cells, z, y, x)) {
            continue;
        }
        const float d = determinant(displacement + 3 * voxels * k, voxels,
                                    (int64)z * cells * cells + index,
                                    difference(z, cells, (int64)cells * cells),
                                    difference(y, cells, cells), difference(x, cells, 1));
        counts[2 * item] += 1;
        counts[2 * item + 1] += d <= 0.0f;
    }
}
