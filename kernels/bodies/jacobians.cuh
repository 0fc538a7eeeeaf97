// The Jacobian determinant by region.
#pragma once

#include "fields.cuh"
#include "surfaces.cuh"

namespace segreg {

// Columns of the two tables of `jacobian_sums`; a row for each region, the background first, and
// a last one for the seams.
enum JacobianCount { JACOBIAN_VOXELS, JACOBIAN_UNFOLDED, JACOBIAN_COUNTS };
enum JacobianSum { JACOBIAN_SUM, JACOBIAN_LOG, JACOBIAN_LOG_SQUARE, JACOBIAN_SUMS };

// Adds one voxel to its region's row, or to the seams' if it has a neighbour of another region.
// Logarithms are of the regions only.
SEGREG_BODY void add_jacobian(int region, bool seam, float jacobian, int count, int64* counts,
                              double* sums) {
    const int row = seam || region < 0 || region > count ? count + 1 : region;
    const bool unfolded = jacobian > 0.0f;
    counts[JACOBIAN_COUNTS * row + JACOBIAN_VOXELS] += 1;
    counts[JACOBIAN_COUNTS * row + JACOBIAN_UNFOLDED] += unfolded;
    if (row == 0 || row > count) return;
    double* s = sums + JACOBIAN_SUMS * row;
    s[JACOBIAN_SUM] += jacobian;
    if (!unfolded) return;
    const double log = logf(jacobian);
    s[JACOBIAN_LOG] += log;
    s[JACOBIAN_LOG_SQUARE] += log * log;
}

// Whether a cell of a field lies inside its region: the first of its canvas cells, `stride` of
// them to a cell along every axis, more than half.
SEGREG_BODY bool inside_at(const float* mask, Grid field, int stride, int z, int y, int x) {
    const int64 row = ((int64)z * field.height * stride + y) * stride;
    return mask[(row * field.width + x) * stride] > 0.5f;
}

}  // namespace segreg
