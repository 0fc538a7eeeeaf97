// Parts of rows, and rows of a field between its own.
#pragma once

#include "interpolation.cuh"
#include "launch.hpp"

namespace segreg {

// Cells [begin, end) of a row.
struct Span {
    int begin, end;
};

const int LANES = 16;

// The span filled up to whole vectors: single cells at its end cost as much as a vector.
inline Span filled(Span span) {
    return {span.begin, span.begin + (span.end - span.begin + LANES - 1) / LANES * LANES};
}

// Where a row holds a number; how many places. `places` has room for all of them.
inline int find_places(const int* row, int wanted, int width, int* places) {
    int count = 0;
    for (int x = 0; x < width; ++x) {
        places[count] = x;
        count += row[x] == wanted;
    }
    return count;
}

// The row (3, width) of a field (3, depth, height, width) between its rows along z and y: of
// neighbouring samples on one row, most of the work is shared.
void field_row(const float* field, Grid grid, Neighbours z, Neighbours y, float* row);

}  // namespace segreg
