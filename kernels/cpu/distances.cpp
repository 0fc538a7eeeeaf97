#include "fusion.cuh"

#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {
namespace {

// One row of the distance transform along another axis: all cells of the row look at the same
// number of steps at once, and stop when no step can help any of them. Nothing is farther than
// the square root of `most_square`.
SEGREG_CLONES
void distance_axis_row(const float* squares, int position, int length, int64 stride,
                       float spacing, float most_square, int width, float* SEGREG_RESTRICT out) {
    for (int x = 0; x < width; ++x) out[x] = nearer(most_square, squares[x], 0, spacing);
    const int reach = std::max(position, length - 1 - position);
    for (int steps = 1; steps <= reach; ++steps) {
        const float d = (float)steps * spacing;
        const float least_square = d * d;
        int open = 0;
        for (int x = 0; x < width; ++x) open |= out[x] > least_square;
        if (!open) break;
        if (position >= steps) {
            const float* low = squares - steps * stride;
            SEGREG_SIMD
            for (int x = 0; x < width; ++x) out[x] = nearer(out[x], low[x], steps, spacing);
        }
        if (position + steps < length) {
            const float* high = squares + steps * stride;
            SEGREG_SIMD
            for (int x = 0; x < width; ++x) out[x] = nearer(out[x], high[x], steps, spacing);
        }
    }
}

}  // namespace

void distance_rows(int64 size, const unsigned char* mask, int length, const float* spacing,
                   int rows_each, float* squares) {
    parallel_ranges(size, rows_for(length), [&](int64 begin, int64 end) {
        for (int64 row = begin; row < end; ++row) {
            distance_row(mask + row * length, length, spacing[3 * (row / rows_each) + 2],
                         squares + row * length);
        }
    });
}

void distance_axis(int64 size, const float* squares, int depth, int height, int width,
                   const float* spacing, float most_square, int axis, int root,
                   float* distances) {
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const int length = axis == 0 ? depth : height;
    const int64 stride = axis == 0 ? (int64)height * width : width;
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 row = begin; row < end; ++row) {
            const Row r = row_of(row, grid);
            float* out = distances + voxels * r.batch + r.begin;
            distance_axis_row(squares + voxels * r.batch + r.begin, axis == 0 ? r.z : r.y, length,
                              stride, spacing[3 * r.batch + axis], most_square, width, out);
            for (int x = 0; root && x < width; ++x) out[x] = sqrtf(out[x]);
        }
    });
}

}  // namespace segreg
