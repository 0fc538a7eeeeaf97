// Jacobian determinants, a row at a time.
#pragma once

#include "fields.cuh"
#include "launch.hpp"

namespace segreg {

// Row (z, y) of the determinants of one field (3, D, H, W).
void determinant_row(const float* field, Grid grid, int z, int y, float* determinants);

}  // namespace segreg
