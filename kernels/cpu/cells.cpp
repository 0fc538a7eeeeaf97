#include "cells.cuh"

#include "ahead.hpp"
#include "kernels.hpp"
#include "launch.hpp"
#include "way.hpp"

namespace segreg {
namespace {

// Adds the sums of a row's voxels to those of the rows before it.
SEGREG_CLONES
void window_row(const float* SEGREG_RESTRICT moving, Grid seen,
                const float* SEGREG_RESTRICT positions, const float* SEGREG_RESTRICT fixed,
                const int* SEGREG_RESTRICT words, const int* SEGREG_RESTRICT regions, int width,
                float* SEGREG_RESTRICT values) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        const WindowSums w = window_at(fixed[x], interpolate(moving, corners(seen, p)),
                                       own_region(words[x]) == regions[x]);
        SEGREG_UNROLL
        for (int c = 0; c < WINDOW_CHANNELS; ++c) values[c * width + x] += w.n[c];
    }
}

// Adds the equations of a row's voxels, with outlines or of the image alone.
template <bool OUTLINES>
SEGREG_CLONES void normal_row(const MovingSide& side, const float* SEGREG_RESTRICT positions,
                              const float* SEGREG_RESTRICT fixed,
                              const int* SEGREG_RESTRICT words,
                              const float* SEGREG_RESTRICT distances,
                              const float* SEGREG_RESTRICT windows,
                              const int* SEGREG_RESTRICT regions, Vector unit,
                              const Tolerance& tolerated, const EquationWeights& given, int width,
                              float* SEGREG_RESTRICT values) {
    const MovingSide moving = side;
    const Tolerance tolerance = tolerated;
    const EquationWeights weights = given;
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        const WindowSums sums = load_window(windows, width, x);
        const int region = own_region(words[x]);
        const Normal n = cell_normal<OUTLINES>(moving, p, fixed[x], region, distances[x],
                                               window_of(sums), unit, tolerance, weights);
        raise_normal(values, width, x, region == regions[x] ? 1.0f : 0.0f, n);
    }
}

// A row of cells: for every voxel of a fine row the value of its cell.
template <typename Value>
void spread_row(const Value* cells, const Cells& all, int width, Value* row) {
    for (int cx = 0; cx < all.grid.width; ++cx) {
        const int end = cell_end(cx, all.grid.width, all.factor_x, width);
        for (int x = cell_begin(cx, all.factor_x); x < end; ++x) row[x] = cells[cx];
    }
}

// The other way round: sums of a fine row over the cells it lies in.
SEGREG_CLONES
void gather_row(const float* SEGREG_RESTRICT row, const Cells& all, int width, float share,
                float* SEGREG_RESTRICT sums) {
    const int last = all.grid.width - 1, factor = all.factor_x;
    if (factor == 2) {
        SEGREG_SIMD
        for (int cx = 0; cx < last; ++cx) sums[cx] = share * (row[2 * cx] + row[2 * cx + 1]);
    }
    for (int cx = factor == 2 ? last : 0; cx <= last; ++cx) {
        const int end = cell_end(cx, all.grid.width, factor, width);
        float sum = 0.0f;
        for (int x = cell_begin(cx, factor); x < end; ++x) sum += row[x];
        sums[cx] = share * sum;
    }
}

const int64 CELL_ROWS = 8;  // of a piece of work

// What the fine rows in cell rows [begin, end) look into.
Box seen_from(const Cells& cells, const Way& way, int64 begin, int64 end) {
    Sight sight;
    for (int64 row = begin; row < end; ++row) {
        const int cz = (int)(row / cells.grid.height), cy = (int)(row % cells.grid.height);
        for (int z : {cell_begin(cz, cells.factor_z),
                      cell_end(cz, cells.grid.depth, cells.factor_z, way.fixed.depth) - 1}) {
            const int64 fine = (int64)z * way.fixed.height + cell_begin(cy, cells.factor_y);
            sight.add_rows(way.fixed, fine, fine + 1, [&](const Row& r, int x) {
                return position_of(way, way.displacement, r, x);
            });
        }
    }
    return sight.box_in(way.moving);
}

// For each piece of work: ahead(what it looks into, voxels in it). For each row of cells:
// begin(cell row) once, then add(fine row, sums of its columns) for every fine row in it; the
// cells' shares of these go to `result`.
template <int CHANNELS, typename Ahead, typename Begin, typename Add>
void sum_rows(const Cells& cells, const Way& way, float* result, const Ahead& ahead,
              const Begin& begin, const Add& add) {
    const Grid grid = way.fixed;
    const int width = grid.width;
    const int64 count = voxels_of(cells.grid), across = cells.grid.width;
    const int64 rows = (int64)cells.grid.depth * cells.grid.height;
    const auto sum_row = [&](int64 row) {
        const int cz = (int)(row / cells.grid.height), cy = (int)(row % cells.grid.height);
        std::vector<float> columns((size_t)CHANNELS * width, 0.0f);
        auto room = begin(row * across);
        const int z_end = cell_end(cz, cells.grid.depth, cells.factor_z, grid.depth);
        const int y_end = cell_end(cy, cells.grid.height, cells.factor_y, grid.height);
        for (int z = cell_begin(cz, cells.factor_z); z < z_end; ++z) {
            for (int y = cell_begin(cy, cells.factor_y); y < y_end; ++y) {
                add(row_of((int64)z * grid.height + y, grid), room, columns.data());
            }
        }
        for (int c = 0; c < CHANNELS; ++c) {
            gather_row(columns.data() + (int64)c * width, cells, width, cell_share(cells),
                       result + c * count + row * across);
        }
    };
    parallel_ranges(rows, CELL_ROWS, [&](int64 first, int64 last) {
        ahead(seen_from(cells, way, first, last),
              (last - first) * cells.factor_z * cells.factor_y * width);
        for (int64 row = first; row < last; ++row) sum_row(row);
    });
}

// What a row of cells lends to the fine rows in it.
struct Lent {
    std::vector<int> regions;
    std::vector<float> windows, positions;
};

}  // namespace

void cell_windows(int64, const float* moving, int moving_depth, int moving_height,
                  int moving_width, Affine affine, const float* fixed, const int* words,
                  const float* displacement, int depth, int height, int width, const int* regions,
                  int cell_depth, int cell_height, int cell_width, int factor_z, int factor_y,
                  int factor_x, float* sums) {
    const Grid grid = {depth, height, width};
    const Grid seen = {moving_depth, moving_height, moving_width};
    const Cells cells = {{cell_depth, cell_height, cell_width}, factor_z, factor_y, factor_x};
    const Way way = {seen, grid, displacement, affine};
    sum_rows<WINDOW_CHANNELS>(
        cells, way, sums,
        [&](const Box& box, int64 voxels) { fetch_ahead(moving, seen, box, voxels); },
        [&](int64 first) {
            Lent lent{std::vector<int>(width), {}, std::vector<float>((size_t)3 * width)};
            spread_row(regions + first, cells, width, lent.regions.data());
            return lent;
        },
        [&](const Row& r, Lent& lent, float* values) {
            row_positions(way, displacement, r, lent.positions.data());
            window_row(moving, seen, lent.positions.data(), fixed + r.begin, words + r.begin,
                       lent.regions.data(), width, values);
        });
}

void cell_normals(int64 size, const float* moving, const int* moving_words,
                  const float* moving_distances, int moving_depth, int moving_height,
                  int moving_width, Affine affine, const float* fixed, const int* words,
                  const float* distances, const float* displacement, int depth, int height,
                  int width, float unit_z, float unit_y, float unit_x, float margin, float slack,
                  float rest, float beyond, float image_weight, float outline_weight, float floor,
                  const float* windows, const int* regions, int cell_depth, int cell_height,
                  int cell_width, int factor_z, int factor_y, int factor_x, float* normals) {
    const Grid grid = {depth, height, width};
    const MovingSide side = {moving, moving_words, moving_distances,
                             {moving_depth, moving_height, moving_width}, affine};
    const Cells cells = {{cell_depth, cell_height, cell_width}, factor_z, factor_y, factor_x};
    const Way way = {side.grid, grid, displacement, affine};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    const Tolerance tolerance = {margin, slack, rest, beyond};
    const EquationWeights weights = {image_weight, outline_weight, floor};
    // Outlines that count for nothing are not looked at.
    const bool outlines = outline_weight > 0.0f;
    const auto add_row = outlines ? normal_row<true> : normal_row<false>;
    sum_rows<9>(
        cells, way, normals,
        [&](const Box& box, int64 voxels) {
            fetch_ahead(moving, side.grid, box, voxels);
            if (!outlines) return;
            fetch_ahead(moving_words, side.grid, box, voxels);
            fetch_ahead(moving_distances, side.grid, box, voxels);
        },
        [&](int64 first) {
            Lent lent{std::vector<int>(width), std::vector<float>((size_t)WINDOW_CHANNELS * width),
                      std::vector<float>((size_t)3 * width)};
            spread_row(regions + first, cells, width, lent.regions.data());
            for (int c = 0; c < WINDOW_CHANNELS; ++c) {
                spread_row(windows + c * size + first, cells, width,
                           lent.windows.data() + (int64)c * width);
            }
            return lent;
        },
        [&](const Row& r, Lent& lent, float* values) {
            row_positions(way, displacement, r, lent.positions.data());
            add_row(side, lent.positions.data(), fixed + r.begin, words + r.begin,
                       distances + r.begin, lent.windows.data(), lent.regions.data(), unit,
                       tolerance, weights, width, values);
        });
}

}  // namespace segreg
