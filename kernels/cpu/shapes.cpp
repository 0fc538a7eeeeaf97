#include "shapes.cuh"

#include "kernels.hpp"
#include "launch.hpp"
#include "memory.hpp"

namespace segreg {
namespace {

// Which of `count` voxels of a row, from `first` on, are in the region: 1 or 0; beyond the row 0.
SEGREG_CLONES
void member_row(const int* row, int width, int region, int first, int count,
                unsigned char* SEGREG_RESTRICT members) {
    const int begin = most(0, -first), end = least(count, width - first);
    for (int x = 0; x < begin; ++x) members[x] = 0;
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) members[x] = is_member(row[first + x], region) ? 1 : 0;
    for (int x = most(begin, end); x < count; ++x) members[x] = 0;
}

SEGREG_CLONES
void join_rows(const unsigned char* one, const unsigned char* under, const unsigned char* behind,
               const unsigned char* across, const unsigned char* one_right,
               const unsigned char* under_right, const unsigned char* behind_right,
               const unsigned char* across_right, int count, unsigned char* SEGREG_RESTRICT bytes) {
    SEGREG_SIMD
    for (int x = 0; x < count; ++x) {
        bytes[x] = (unsigned char)(one[x] | one_right[x] << 1 | under[x] << 2 |
                                   under_right[x] << 3 | behind[x] << 4 | behind_right[x] << 5 |
                                   across[x] << 6 | across_right[x] << 7);
    }
}

// Calls use(row) for all rows on all threads.
template <typename Use>
void for_rows(int64 rows, int width, const Use& use) {
    parallel_ranges(rows, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 row = begin; row < end; ++row) use(row);
    });
}

// The voxels of the region from the origin on, one more along each axis than cells.
void fill_members(const int* regions, Grid grid, const Shape& shape, int region,
                  unsigned char* members) {
    const int height = shape.y.cells + 1, width = shape.x.cells + 1;
    for_rows((int64)(shape.z.cells + 1) * height, width, [&](int64 row) {
        const int64 z = shape.z.origin + row / height, y = shape.y.origin + row % height;
        const bool there = z >= 0 && z < grid.depth && y >= 0 && y < grid.height;
        member_row(regions + (there ? (z * grid.height + y) * grid.width : 0),
                   there ? grid.width : 0, region, shape.x.origin, width, members + row * width);
    });
}

void fill_cells(const Shape& shape, const unsigned char* members, unsigned char* bytes) {
    const int64 height = shape.y.cells, width = shape.x.cells;
    for_rows(shape.z.cells * height, (int)width, [&](int64 row) {
        const unsigned char* one =
            members + (row / height * (height + 1) + row % height) * (width + 1);
        const unsigned char *under = one + width + 1, *behind = one + (height + 1) * (width + 1);
        const unsigned char* across = behind + width + 1;
        join_rows(one, under, behind, across, one + 1, under + 1, behind + 1, across + 1,
                  (int)width, bytes + row * width);
    });
}

}  // namespace

void shape_regions(int64, const int* regions, int depth, int height, int width, const int* indices,
                   const int* boxes, const int64* begins, int count, unsigned char* bytes) {
    const Grid grid = {depth, height, width};
    for (int k = 0; k < count; ++k) {
        const Shape shape = shape_of(boxes + 6 * k, grid, begins[k]);
        const Scratch<unsigned char> members((size_t)(shape.z.cells + 1) * (shape.y.cells + 1) *
                                             (shape.x.cells + 1));
        fill_members(regions, grid, shape, indices[k], members.data());
        fill_cells(shape, members.data(), bytes + shape.begin);
    }
}

}  // namespace segreg
