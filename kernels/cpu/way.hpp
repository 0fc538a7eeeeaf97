// From the fixed grid to the moving one, a row at a time.
#pragma once

#include "interpolation.cuh"
#include "launch.hpp"

namespace segreg {

// The two grids and the way between them.
struct Way {
    Grid moving, fixed;
    const float* displacement;
    Affine affine;
};

SEGREG_BODY Vector position_of(const Way& way, const float* displacement, const Row& r, int x) {
    return moving_position(way.affine, displacement, voxels_of(way.fixed), r.begin + x,
                           make_vector((float)r.z, (float)r.y, (float)x));
}

// Positions in the moving grid of one fixed row: (3, width), components apart. `displacement` is
// that of the row's batch entry.
void row_positions(const Way& way, const float* displacement, Row r, float* positions);

}  // namespace segreg
