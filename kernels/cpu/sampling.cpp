#include "kernels.hpp"
#include "labels.cuh"
#include "launch.hpp"
#include "splines.hpp"

namespace segreg {
namespace {

// What every kernel of this file knows about the two grids and the way between them.
struct Way {
    Grid moving, fixed;
    const float* displacement;
    Affine affine;
};

// Positions in the moving grid of one fixed row: (3, width), components apart.
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

template <typename Label>
void label_row(const Label* labels, Grid grid, const float* positions, int width, int nearest,
               Label* warped) {
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        warped[x] = label_at(labels, grid, p, nearest);
    }
}

template <typename Label>
void warp_label_rows(int64 begin, int64 end, const Way& way, const Label* labels, int nearest,
                     Label* warped) {
    const int width = way.fixed.width;
    std::vector<float> positions((size_t)3 * width);
    for (int64 row = begin; row < end; ++row) {
        const Row r = row_of(row, way.fixed);
        row_positions(way, way.displacement, r, positions.data());
        label_row(labels, way.moving, positions.data(), width, nearest, warped + r.begin);
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

void warp_labels(int64 size, const int* labels, int moving_depth, int moving_height,
                 int moving_width, const float* displacement, int depth, int height,
                 int width, Affine affine, int nearest, int* warped) {
    const Way way = {{moving_depth, moving_height, moving_width},
                     {depth, height, width},
                     displacement,
                     affine};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        warp_label_rows(begin, end, way, labels, nearest, warped);
    });
}

// Range number `table` counts the rows from table * rows / tables on into its own table.
void overlap(int64 size, const int* moving, int moving_depth, int moving_height,
             int moving_width, const int* fixed, const float* displacement, int depth,
             int height, int width, Affine affine, int nearest, int count, int tables,
             int64* confusion) {
    const Way way = {{moving_depth, moving_height, moving_width},
                     {depth, height, width},
                     displacement,
                     affine};
    const int64 entries = (int64)(count + 1) * (count + 1) + 1;
    parallel_ranges(tables, 1, [&](int64 table, int64) {
        std::vector<float> positions((size_t)3 * width);
        std::vector<int> warped(width);
        const int64 begin = table * size / tables, end = (table + 1) * size / tables;
        for (int64 row = begin; row < end; ++row) {
            const Row r = row_of(row, way.fixed);
            row_positions(way, displacement, r, positions.data());
            label_row(moving, way.moving, positions.data(), width, nearest, warped.data());
            Pairs pairs = {count, confusion + table * entries, 0, 0};
            for (int x = 0; x < width; ++x) count_pair(pairs, fixed[r.begin + x], warped[x]);
            finish(pairs);
        }
    });
}

}  // namespace segreg
