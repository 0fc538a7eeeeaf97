// Cubic B-spline samples of one row.
#pragma once

#include "platform.cuh"

namespace segreg {

// Samples the spline at `width` positions: (3, width), components apart.
void cubic_row(const float* coefficients, Grid grid, const float* positions, int width,
               float* warped);

}  // namespace segreg
