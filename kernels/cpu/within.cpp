#include "kernels.hpp"
#include "means.hpp"

namespace segreg {
namespace {

const int SLICES = 8, ROWS = 16;  // of a piece: its rows and those beside them stay in the cache

// The slices and rows of a piece of work.
struct Piece {
    int z_begin, z_end, y_begin, y_end;
};

// Slice by slice: along z into a buffer, from there along y, from there along x into the result.
void smooth_piece(const float* volume, int channels, const float* edges, Grid grid,
                  const Filter& f, int paired, const Piece& piece, float* result) {
    const int width = grid.width, pad = f.x.radius;
    const int64 voxels = voxels_of(grid), slice = (int64)grid.height * width;
    const int low = most(0, piece.y_begin - f.y.radius);
    const int high = least(grid.height, piece.y_end + f.y.radius);
    const Span all = {0, width};
    const int64 across = (int64)channels * width, padded = width + 2 * pad;
    std::vector<float> rows((size_t)((high - low) * across)), row((size_t)(channels * padded));
    RowWeights room(width, f);
    const auto weigh = [&](int axis, const Row& r, const Taps& taps) {
        room.weigh(edges, grid, axis, r, all, taps, paired);
    };
    for (int z = piece.z_begin; z < piece.z_end; ++z) {
        for (int y = low; y < high; ++y) {
            const Row r = {0, z, y, z * slice + (int64)y * width};
            weigh(0, r, f.z);
            mean_row({channels, volume + r.begin, slice, voxels,
                      rows.data() + (y - low) * across, width},
                     room.at(0), width, offsets_at(z, grid.depth, f.z.radius), 0, width);
        }
        for (int y = piece.y_begin; y < piece.y_end; ++y) {
            const Row r = {0, z, y, z * slice + (int64)y * width};
            weigh(1, r, f.y);
            mean_row({channels, rows.data() + (y - low) * across, across, width,
                      row.data() + pad, padded},
                     room.at(0), width, offsets_at(y, grid.height, f.y.radius), 0, width);
            weigh(2, r, f.x);
            mean_row({channels, row.data() + pad, 1, padded, result + r.begin, voxels},
                     room.at(0), width, {-pad, pad}, 0, width);
        }
    }
}

// How each voxel of a row is coupled with the next on an axis.
SEGREG_CLONES
void couple_row_ends(const int* SEGREG_RESTRICT words, const float* SEGREG_RESTRICT u, int64 voxels,
                   const Shifted& s, Vector unit, float slip, int width,
                   float* SEGREG_RESTRICT edges) {
    for (int x = s.end; x < width; ++x) edges[x] = 0.0f;
    SEGREG_SIMD
    for (int x = s.begin; x < s.end; ++x) {
        const Vector jump = make_vector((u[x + s.step] - u[x]) * unit.z,
                                        (u[voxels + x + s.step] - u[voxels + x]) * unit.y,
                                        (u[2 * voxels + x + s.step] - u[2 * voxels + x]) * unit.x);
        const bool same = own_region(words[x]) == own_region(words[x + s.step]);
        edges[x] = coupling(same, squared_length(jump), slip);
    }
}

// `nearest_border` of a row, one neighbour after the other.
SEGREG_CLONES
void border_row(const int* SEGREG_RESTRICT words, const float* SEGREG_RESTRICT squares,
                const Shifted& s, float away, const int* SEGREG_RESTRICT own,
                float* SEGREG_RESTRICT best, int* SEGREG_RESTRICT best_other) {
    const float* there = squares ? squares + s.step : nullptr;
    SEGREG_SIMD
    for (int x = s.begin; x < s.end; ++x) {
        const int word = words[x + s.step], region = own_region(word);
        const Border b = border_through(region == own[x], region, there ? there[x] : NOWHERE,
                                        other_region(word), away);
        const bool nearer = b.square < best[x];
        best[x] = nearer ? b.square : best[x];
        best_other[x] = nearer ? b.other : best_other[x];
    }
}

}  // namespace

void smooth_within(int64 size, const float* volume, const float* edges, int depth, int height,
                   int width, const float* weights, int radius_z, int radius_y, int radius_x,
                   int paired, float* result) {
    const Grid grid = {depth, height, width};
    const Filter f = make_filter(weights, radius_z, radius_y, radius_x, 0);
    const int channels = (int)(size / voxels_of(grid));
    const int along_y = (height + ROWS - 1) / ROWS;
    const int along_z = (depth + SLICES - 1) / SLICES;
    parallel_ranges((int64)along_z * along_y, 1, [&](int64 number, int64) {
        const int z = (int)(number / along_y) * SLICES, y = (int)(number % along_y) * ROWS;
        const Piece piece = {z, least(depth, z + SLICES), y, least(height, y + ROWS)};
        smooth_piece(volume, channels, edges, grid, f, paired, piece, result);
    });
}

void couple(int64 size, const int* words, const float* displacement, int depth, int height,
            int width, float unit_z, float unit_y, float unit_x, float slip, float* edges) {
    const Grid grid = {depth, height, width};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            for (int axis = 0; axis < 3; ++axis) {
                couple_row_ends(words + r.begin, displacement + r.begin, size,
                                shifted_row(grid, axis, r, 1), unit, slip, width,
                                edges + axis * size + r.begin);
            }
        }
    });
}

void border_axis(int64 size, const int* words, const float* squares, int depth, int height,
                 int width, int axis, float step, int radius, float farthest, int last,
                 int* next_words, float* next) {
    const Grid grid = {depth, height, width};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        std::vector<int> own(width), other(width);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            const int* here = words + r.begin;
            float* best = next + r.begin;
            for (int x = 0; x < width; ++x) own[x] = own_region(here[x]);
            other = own;
            std::fill_n(best, width, farthest * farthest);
            for (int k = -radius; k <= radius; ++k) {
                border_row(here, squares ? squares + r.begin : nullptr,
                           shifted_row(grid, axis, r, k), to_box(k, step), own.data(), best,
                           other.data());
            }
            for (int x = 0; x < width; ++x) {
                next_words[r.begin + x] = word_of(own[x], other[x]);
                if (last) best[x] = sqrtf(best[x]);
            }
        }
    });
}

}  // namespace segreg
