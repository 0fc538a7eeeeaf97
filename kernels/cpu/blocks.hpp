// Marked blocks of a volume, a piece of work each.
#pragma once

#include "blocks.cuh"
#include "launch.hpp"

namespace segreg {

// Calls work(box) for the blocks that are marked; marked neighbours along a row are one box.
template <typename Work>
void for_marked_blocks(const unsigned char* marks, Grid grid, const Work& work) {
    const Grid all = blocks_of(grid);
    parallel_ranges((int64)all.depth * all.height, 1, [&](int64 row, int64) {
        const unsigned char* here = marks + row * all.width;
        const int z = (int)(row / all.height), y = (int)(row % all.height);
        for (int x = 0; x < all.width; ++x) {
            if (!here[x]) continue;
            Box box = box_of(grid, z, y, x, 0);
            while (x + 1 < all.width && here[x + 1]) ++x;
            box.x_end = box_of(grid, z, y, x, 0).x_end;
            work(box);
        }
    });
}

// Calls range(begin, end) for the rows of the marked blocks, in flat indices; for all voxels in
// pieces of `grain` if `marks` is null.
template <typename Range>
void for_marked_rows(const unsigned char* marks, Grid grid, int64 grain, const Range& range) {
    if (!marks) {
        parallel_ranges(voxels_of(grid), grain, range);
        return;
    }
    for_marked_blocks(marks, grid, [&](const Box& box) {
        for (int z = box.z_begin; z < box.z_end; ++z) {
            for (int y = box.y_begin; y < box.y_end; ++y) {
                const int64 row = ((int64)z * grid.height + y) * grid.width;
                range(row + box.x_begin, row + box.x_end);
            }
        }
    });
}

}  // namespace segreg
