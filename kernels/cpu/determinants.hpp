// One row of Jacobian determinants.
#pragma once

#include "fields.cuh"
#include "launch.hpp"

namespace segreg {

SEGREG_BODY void determinant_row(const float* field, Grid grid, const Row& r,
                                 float* SEGREG_RESTRICT out) {
    const int64 voxels = voxels_of(grid);
    const int last = grid.width - 1;
    const Difference dz = difference(r.z, grid.depth, (int64)grid.height * grid.width);
    const Difference dy = difference(r.y, grid.height, grid.width);
    // The inside of the row has one difference for all, so its loads are contiguous.
    const Difference dx = difference(1, 3, 1);
    SEGREG_SIMD
    for (int x = 1; x < last; ++x) {
        out[x] = determinant(field, voxels, r.begin + x, dz, dy, dx);
    }
    out[0] = determinant(field, voxels, r.begin, dz, dy, difference(0, grid.width, 1));
    out[last] = determinant(field, voxels, r.begin + last, dz, dy,
                            difference(last, grid.width, 1));
}

}  // namespace segreg
