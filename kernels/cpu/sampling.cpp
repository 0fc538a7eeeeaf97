#include "ahead.hpp"
#include "kernels.hpp"
#include "splines.hpp"
#include "way.hpp"

namespace segreg {

SEGREG_CLONES
void row_positions(const Way& way, const float* displacement, Row r,
                   float* SEGREG_RESTRICT positions) {
    const int width = way.fixed.width;
    const int64 voxels = voxels_of(way.fixed);
    const Affine affine = way.affine;
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = moving_position(affine, displacement, voxels, r.begin + x,
                                         make_vector((float)r.z, (float)r.y, (float)x));
        positions[x] = p.z;
        positions[width + x] = p.y;
        positions[2 * width + x] = p.x;
    }
}

namespace {

SEGREG_CLONES
void linear_row(const float* moving, Grid grid, const float* SEGREG_RESTRICT positions, int width,
                float* SEGREG_RESTRICT warped) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        warped[x] = interpolate(moving, corners(grid, p));
    }
}

SEGREG_CLONES
void nearest_row(const float* moving, Grid grid, const float* SEGREG_RESTRICT positions, int width,
                 float* SEGREG_RESTRICT warped) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        warped[x] = moving[nearest_index(grid, p)];
    }
}

// Apart from the sampling: in one loop the choice would become a branch around it.
SEGREG_CLONES
void mark_outside(Grid grid, const float* SEGREG_RESTRICT positions, int width, float outside,
                  float* SEGREG_RESTRICT warped) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        warped[x] = lies_inside(grid, p) ? warped[x] : outside;
    }
}

using SampleRow = void (*)(const float* volume, Grid grid, const float* positions, int width,
                           float* warped);

// Every channel of a row is sampled at the same positions, so they are made once.
void warp_rows(int64 begin, int64 end, const Way& way, SampleRow sample_row, const float* moving,
               int channels, float outside, float* warped) {
    const int width = way.fixed.width;
    const int64 moving_voxels = voxels_of(way.moving), fixed_voxels = voxels_of(way.fixed);
    std::vector<float> positions((size_t)3 * width);
    const Box box = looked_at(way, begin, end);
    const float* ahead = moving + row_of(begin, way.fixed).batch * channels * moving_voxels;
    for (int c = 0; c < channels; ++c) {
        fetch_ahead(ahead + c * moving_voxels, way.moving, box, (end - begin) * width);
    }
    for (int64 row = begin; row < end; ++row) {
        const Row r = row_of(row, way.fixed);
        row_positions(way, way.displacement + 3 * fixed_voxels * r.batch, r, positions.data());
        for (int c = 0; c < channels; ++c) {
            const int64 plane = r.batch * channels + c;
            float* out = warped + plane * fixed_voxels + r.begin;
            sample_row(moving + plane * moving_voxels, way.moving, positions.data(), width, out);
            mark_outside(way.moving, positions.data(), width, outside, out);
        }
    }
}

}  // namespace

void warp(int64 size, const float* moving, int channels, int moving_depth, int moving_height,
          int moving_width, const float* displacement, int depth, int height, int width,
          Affine affine, int nearest, float outside, float* warped) {
    const Way way = {{moving_depth, moving_height, moving_width},
                     {depth, height, width},
                     displacement,
                     affine};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        warp_rows(begin, end, way, nearest ? nearest_row : linear_row, moving, channels, outside,
                  warped);
    });
}

void warp_cubic(int64 size, const float* coefficients, int channels, int moving_depth,
                int moving_height, int moving_width, const float* displacement, int depth,
                int height, int width, Affine affine, float outside, float* warped) {
    const Way way = {{moving_depth, moving_height, moving_width},
                     {depth, height, width},
                     displacement,
                     affine};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        warp_rows(begin, end, way, cubic_row, coefficients, channels, outside, warped);
    });
}

}  // namespace segreg
