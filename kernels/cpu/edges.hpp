// Where rows of a region map have neighbours of another region.
#pragma once

#include "launch.hpp"
#include "surfaces.cuh"

namespace segreg {

// 1 for each voxel of row `r` with a face neighbour of another region, else 0.
void edge_row(const int* regions, Grid grid, Row r, int* edges);

}  // namespace segreg
