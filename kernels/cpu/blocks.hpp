// Marked blocks of a volume, a piece of work each.
#pragma once

#include "blocks.cuh"
#include "launch.hpp"

namespace segreg {

// Calls work(box, room) for the blocks that are marked, all of them if `marks` is null; neighbours
// along a row are one box. Those of a row share what make_room() gives.
template <typename MakeRoom, typename Work>
void for_marked_blocks(const unsigned char* marks, Grid grid, const MakeRoom& make_room,
                       const Work& work) {
    const Grid all = blocks_of(grid);
    parallel_ranges((int64)all.depth * all.height, 1, [&](int64 row, int64) {
        const auto wanted = [&](int x) { return !marks || marks[row * all.width + x]; };
        const int z = (int)(row / all.height), y = (int)(row % all.height);
        auto room = make_room();
        for (int x = 0; x < all.width; ++x) {
            if (!wanted(x)) continue;
            Box box = box_of(grid, z, y, x, 0);
            while (x + 1 < all.width && wanted(x + 1)) ++x;
            box.x_end = box_of(grid, z, y, x, 0).x_end;
            work(box, room);
        }
    });
}

}  // namespace segreg
