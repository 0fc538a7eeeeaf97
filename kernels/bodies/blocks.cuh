// A volume in blocks, so that work may be left out where nothing is left to do.
#pragma once

#include "platform.cuh"

namespace segreg {

constexpr int BLOCK_DEPTH = 4, BLOCK_HEIGHT = 8, BLOCK_WIDTH = 32;

// How many blocks a grid has.
SEGREG_BODY Grid blocks_of(Grid grid) {
    return {(grid.depth + BLOCK_DEPTH - 1) / BLOCK_DEPTH,
            (grid.height + BLOCK_HEIGHT - 1) / BLOCK_HEIGHT,
            (grid.width + BLOCK_WIDTH - 1) / BLOCK_WIDTH};
}

SEGREG_BODY Index block_at(Grid blocks, int z, int y, int x) {
    return ((Index)(z / BLOCK_DEPTH) * blocks.height + y / BLOCK_HEIGHT) * blocks.width +
           x / BLOCK_WIDTH;
}

// Some voxels, their ends excluded.
struct Box {
    int z_begin, z_end, y_begin, y_end, x_begin, x_end;
};

// A block and what is up to `rim` voxels around it, inside the grid.
SEGREG_BODY Box box_of(Grid grid, int z, int y, int x, int rim) {
    return {most(z * BLOCK_DEPTH - rim, 0), least((z + 1) * BLOCK_DEPTH + rim, grid.depth),
            most(y * BLOCK_HEIGHT - rim, 0), least((y + 1) * BLOCK_HEIGHT + rim, grid.height),
            most(x * BLOCK_WIDTH - rim, 0), least((x + 1) * BLOCK_WIDTH + rim, grid.width)};
}

// Whether any value in a box is above `bound`.
SEGREG_BODY bool any_above(const float* values, Grid grid, const Box& box, float bound) {
    for (int z = box.z_begin; z < box.z_end; ++z) {
        for (int y = box.y_begin; y < box.y_end; ++y) {
            const float* row = values + ((Index)z * grid.height + y) * grid.width;
            int above = 0;
            for (int x = box.x_begin; x < box.x_end; ++x) above |= row[x] > bound;
            if (above) return true;
        }
    }
    return false;
}

}  // namespace segreg
