// Outlines of regions, and the way from one map's outlines to another's.
#pragma once

#include "labels.cuh"

namespace segreg {

// Whether a face neighbour is of another region; beyond the volume is none.
SEGREG_BODY bool differs_at(const int* regions, Grid grid, int z, int y, int x, int64 index) {
    const int region = regions[index];
    const int64 dz = (int64)grid.height * grid.width, dy = grid.width;
    bool differs = regions[index - (z > 0 ? dz : 0)] != region;
    differs = differs | (regions[index + (z < grid.depth - 1 ? dz : 0)] != region);
    differs = differs | (regions[index - (y > 0 ? dy : 0)] != region);
    differs = differs | (regions[index + (y < grid.height - 1 ? dy : 0)] != region);
    differs = differs | (regions[index - (x > 0 ? 1 : 0)] != region);
    return differs | (regions[index + (x < grid.width - 1 ? 1 : 0)] != region);
}

// On the first or last voxel of an axis; an axis of one voxel has none.
SEGREG_BODY bool at_border(Grid grid, int z, int y, int x) {
    return (grid.depth > 1 && (z == 0 || z == grid.depth - 1)) ||
           (grid.height > 1 && (y == 0 || y == grid.height - 1)) ||
           (grid.width > 1 && (x == 0 || x == grid.width - 1));
}

// Offsets (z, y, x) in rising order of distance, and the bin of each one's distance.
struct Surroundings {
    const int* offsets;  // (count, 3)
    const int* steps;    // (count,) the same in flat indices
    const int* bins;     // (count,), then the bin of what is farther
    int count;
    int reach_z, reach_y, reach_x;  // largest offset along each axis
};

SEGREG_BODY Surroundings surroundings_of(const int* offsets, const int* steps, const int* bins,
                                         int count, const int* reach) {
    Surroundings s;
    s.offsets = offsets;
    s.steps = steps;
    s.bins = bins;
    s.count = count;
    s.reach_z = reach[0];
    s.reach_y = reach[1];
    s.reach_x = reach[2];
    return s;
}

SEGREG_BODY bool within(int position, int reach, int length) {
    return position >= reach && position < length - reach;
}

// Bin of the distance from a voxel to the nearest one of the same region in the other outline.
SEGREG_BODY int nearest_bin(const short* others, Grid grid, const Surroundings& around, int region,
                            int z, int y, int x) {
    // Away from the border no place needs a look at where it lies.
    const bool free = within(z, around.reach_z, grid.depth) &&
                      within(y, around.reach_y, grid.height) &&
                      within(x, around.reach_x, grid.width);
    const short* here = others + ((int64)z * grid.height + y) * grid.width + x;
    for (int i = 0; i < around.count; ++i) {
        const int* offset = around.offsets + 3 * i;
        // Below zero becomes large: one comparison an axis.
        if (!free && ((unsigned)(z + offset[0]) >= (unsigned)grid.depth ||
                      (unsigned)(y + offset[1]) >= (unsigned)grid.height ||
                      (unsigned)(x + offset[2]) >= (unsigned)grid.width)) {
            continue;
        }
        if (here[around.steps[i]] == region) return around.bins[i];
    }
    return around.bins[around.count];
}

// Counts a voxel of an outline by region and bin, and marks it if the other outline is far.
SEGREG_BODY void count_near(const short* others, Grid grid, const Surroundings& around, int region,
                            int z, int y, int x, int64* table, unsigned char* distant) {
    const int farther = around.bins[around.count];
    const int bin = nearest_bin(others, grid, around, region, z, y, x);
    tally(table + (int64)region * (farther + 1) + bin, 1);
    if (bin == farther) *distant = 1;
}

// Squared distance in mm from a voxel to the nearest one of its region in the other outline,
// looked for in the box (low, then one past the last) that holds that region there. Rows are
// visited outwards, and only while they can be nearer than the best so far.
SEGREG_BODY float far_square(const short* others, Grid grid, const int* box, int region,
                             Vector spacing, int z, int y, int x) {
    float best = 3.4e38f;
    for (int i = 0; i <= 2 * grid.depth; ++i) {
        const int dz = i & 1 ? -(i + 1) / 2 : i / 2;
        const float square_z = (dz * spacing.z) * (dz * spacing.z);
        if (square_z >= best) break;
        if (z + dz < box[0] || z + dz >= box[3]) continue;
        for (int j = 0; j <= 2 * grid.height; ++j) {
            const int dy = j & 1 ? -(j + 1) / 2 : j / 2;
            const float square = square_z + (dy * spacing.y) * (dy * spacing.y);
            if (square >= best) break;
            if (y + dy < box[1] || y + dy >= box[4]) continue;
            const short* row = others + ((int64)(z + dz) * grid.height + y + dy) * grid.width;
            const int last = most(x - box[2], box[5] - 1 - x);
            for (int dx = 0; dx <= last; ++dx) {
                const float whole = square + (dx * spacing.x) * (dx * spacing.x);
                if (whole >= best) break;
                const bool below = x - dx >= box[2] && x - dx < box[5] && row[x - dx] == region;
                const bool above = x + dx >= box[2] && x + dx < box[5] && row[x + dx] == region;
                if (below || above) best = whole;
            }
        }
    }
    return best;
}

}  // namespace segreg
