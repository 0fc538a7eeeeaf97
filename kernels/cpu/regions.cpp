#include "regions.cuh"

#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {

void region_stats(int64 size, const int* regions, const float* image, int depth, int height,
                  int width, int count, int64* moments, double* intensities) {
    parallel_ranges(size, 1, [&](int64 table, int64) {
        sum_rows(regions, image, {depth, height, width}, table, size, count, moments, intensities);
    });
}

}  // namespace segreg
