#include <cstring>

#include "edges.hpp"
#include "kernels.hpp"

namespace segreg {
namespace {

// The inside of a row has neighbours on both sides, and vectorises. A pointer to each: from
// row[x - 1] and row[x + 1] GCC would make a chain through the iterations and not vectorise.
SEGREG_CLONES
void edges_inside(const int* row, const int* left, const int* right, const int* before,
                  const int* behind, const int* over, const int* under, int last,
                  int* SEGREG_RESTRICT edges) {
    SEGREG_SIMD
    for (int x = 1; x < last; ++x) {
        const int v = row[x];
        const bool differs = (left[x] != v) | (right[x] != v) | (before[x] != v) |
                             (behind[x] != v) | (over[x] != v) | (under[x] != v);
        edges[x] = differs ? 1 : 0;
    }
}

SEGREG_CLONES
void keep_edges(const int* SEGREG_RESTRICT row, const int* SEGREG_RESTRICT edges,
                int width, short* SEGREG_RESTRICT outline) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) outline[x] = edges[x] ? (short)row[x] : (short)0;
}

// Four voxels at once: most of a volume is no outline.
bool blank(const short* four) {
    int64 bits;
    std::memcpy(&bits, four, sizeof bits);
    return bits == 0;
}

}  // namespace

void edge_row(const int* regions, Grid grid, Row r, int* edges) {
    const int last = grid.width - 1;
    const int* row = regions + r.begin;
    const int64 dz = (int64)grid.height * grid.width, dy = grid.width;
    edges_inside(row, row - 1, row + 1, row - (r.z > 0 ? dz : 0),
                 row + (r.z < grid.depth - 1 ? dz : 0), row - (r.y > 0 ? dy : 0),
                 row + (r.y < grid.height - 1 ? dy : 0), last, edges);
    edges[0] = differs_at(regions, grid, r.z, r.y, 0, r.begin);
    edges[last] = differs_at(regions, grid, r.z, r.y, last, r.begin + last);
}

void outline(int64 size, const int* regions, int depth, int height, int width, short* outlines) {
    const Grid grid = {depth, height, width};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        std::vector<int> edges(width);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            edge_row(regions, grid, r, edges.data());
            edges[0] |= at_border(grid, r.z, r.y, 0);
            edges[width - 1] |= at_border(grid, r.z, r.y, width - 1);
            if (width > 2 && at_border(grid, r.z, r.y, 1)) {
                std::fill(edges.begin() + 1, edges.end() - 1, 1);
            }
            keep_edges(regions + r.begin, edges.data(), width, outlines + r.begin);
        }
    });
}

// Range number `table` counts the rows from table * rows / tables on into its own table.
void near_surfaces(int64 size, const short* outline, const short* others, int depth, int height,
                   int width, const int* offsets, const int* steps, const int* bins,
                   int offset_count, const int* reach, int count, int tables, int64* counts,
                   unsigned char* distant) {
    const Grid grid = {depth, height, width};
    const Surroundings around = surroundings_of(offsets, steps, bins, offset_count, reach);
    const int64 entries = (int64)(count + 1) * (bins[offset_count] + 1), rows = size / width;
    parallel_ranges(tables, 1, [&](int64 table, int64) {
        const int64 end = (table + 1) * rows / tables;
        for (int64 i = table * rows / tables; i < end; ++i) {
            const Row r = row_of(i, grid);
            for (int x = 0; x < width; ++x) {
                if (x + 4 <= width && blank(outline + r.begin + x)) {
                    x += 3;
                    continue;
                }
                const int region = outline[r.begin + x];
                if (!region) continue;
                count_near(others, grid, around, region, r.z, r.y, x, counts + table * entries,
                           distant + r.begin + x);
            }
        }
    });
}

void far_surfaces(int64 size, const int* voxels, const short* outline, const short* others,
                  int depth, int height, int width, const int* boxes, const float* spacing,
                  float* squares) {
    const Grid grid = {depth, height, width};
    const Vector mm = make_vector(spacing[0], spacing[1], spacing[2]);
    parallel_ranges(size, 16, [&](int64 begin, int64 end) {
        for (int64 i = begin; i < end; ++i) {
            const int region = outline[voxels[i]];
            const Row r = row_of(voxels[i] / width, grid);
            squares[i] = far_square(others, grid, boxes + 6 * region, region, mm, r.z, r.y,
                                    voxels[i] % width);
        }
    });
}

}  // namespace segreg
