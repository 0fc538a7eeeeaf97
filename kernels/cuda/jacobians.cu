// Jacobian determinants by region on the GPU: one thread a table of sums.
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
