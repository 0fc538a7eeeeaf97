#include "jacobians.cuh"

#include "determinants.hpp"
#include "edges.hpp"
#include "kernels.hpp"

namespace segreg {

// Range number `table` of `size` adds the rows from table * rows / size on to its own tables.
void jacobian_sums(int64 size, const int* regions, const float* jacobian, int depth, int height,
                   int width, int count, int64* counts, double* sums) {
    const Grid grid = {depth, height, width};
    const int64 rows = (int64)depth * height;
    parallel_ranges(size, 1, [&](int64 table, int64) {
        std::vector<int> edges(width);
        int64* own_counts = counts + table * (count + 2) * JACOBIAN_COUNTS;
        double* own_sums = sums + table * (count + 2) * JACOBIAN_SUMS;
        const int64 end = (table + 1) * rows / size;
        for (int64 i = table * rows / size; i < end; ++i) {
            const Row r = row_of(i, grid);
            edge_row(regions, grid, r, edges.data());
            for (int x = 0; x < width; ++x) {
                add_jacobian(regions[r.begin + x], edges[x] != 0, jacobian[r.begin + x], count,
                             own_counts, own_sums);
            }
        }
    });
}

// One item is one slice of one field; each counts for itself.
void count_folds(int64 size, const float* displacement, int depth, int height, int width,
                 const float* masks, int channels, int channel, int stride, int64* counts) {
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid), canvas = voxels * stride * stride * stride;
    parallel_ranges(size, 1, [&](int64 i, int64) {
        const int64 k = i / depth;
        const int z = (int)(i % depth);
        const float* mask = masks + (k * channels + channel) * canvas;
        std::vector<float> determinants(width);
        for (int y = 0; y < height; ++y) {
            determinant_row(displacement + 3 * voxels * k, grid, z, y, determinants.data());
            for (int x = 0; x < width; ++x) {
                const bool inside = inside_at(mask, grid, stride, z, y, x);
                counts[2 * i] += inside;
                counts[2 * i + 1] += inside && determinants[x] <= 0.0f;
            }
        }
    });
}

}  // namespace segreg
