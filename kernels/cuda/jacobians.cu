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

extern "C" __global__ void count_folds(int64 size, const float* displacement, int depth,
                                       int height, int width, const float* masks, int channels,
                                       int channel, int stride, int64* counts) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid), canvas = voxels * stride * stride * stride;
    const int64 k = item / depth;
    const int z = (int)(item % depth);
    for (int index = 0; index < height * width; ++index) {
        const int y = index / width, x = index % width;
        if (!inside_at(masks + (k * channels + channel) * canvas, grid, stride, z, y, x)) {
            continue;
        }
        const float d = determinant(displacement + 3 * voxels * k, voxels,
                                    (int64)z * height * width + index,
                                    difference(z, depth, (int64)height * width),
                                    difference(y, height, width), difference(x, width, 1));
        counts[2 * item] += 1;
        counts[2 * item + 1] += d <= 0.0f;
    }
}
