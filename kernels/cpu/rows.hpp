// Rows of a field between its own: of neighbouring samples on one row, most of the work is shared.
#pragma once

#include "interpolation.cuh"
#include "launch.hpp"

namespace segreg {

// The row (3, width) of a field (3, depth, height, width) between its rows along z and y.
void field_row(const float* field, Grid grid, Neighbours z, Neighbours y, float* row);

}  // namespace segreg
