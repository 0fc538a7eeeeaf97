// Regions on the GPU: one thread a table of sums.
#include "regions.cuh"

using namespace segreg;

extern "C" __global__ void region_stats(int64 size, const int* regions, const float* image,
                                        int depth, int height, int width, int count,
                                        int64* moments, double* intensities) {
    const int64 table = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (table >= size) return;
    sum_rows(regions, image, {depth, height, width}, table, size, count, moments, intensities);
}
