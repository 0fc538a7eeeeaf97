#include "splines.cuh"

#include "launch.hpp"
#include "splines.hpp"

namespace segreg {
namespace {

// Voxels whose weights are made together: enough for the vectors, few enough to stay in the
// innermost cache.
const int TILE = 64;

// Weights of one axis, those of w0 first, and where their coefficients begin.
struct AxisTile {
    float weights[4 * TILE];
    int first[TILE];
};

SEGREG_BODY void place_knots(const float* SEGREG_RESTRICT positions, int count, int length,
                             AxisTile& tile) {
    float* SEGREG_RESTRICT weights = tile.weights;
    int* SEGREG_RESTRICT first = tile.first;
    SEGREG_SIMD
    for (int x = 0; x < count; ++x) {
        const Knots n = knots(positions[x], length);
        first[x] = n.first;
        weights[x] = n.w0;
        weights[TILE + x] = n.w1;
        weights[2 * TILE + x] = n.w2;
        weights[3 * TILE + x] = n.w3;
    }
    // Few voxels are at the border: apart, so that the others are vectors.
    for (int x = 0; x < count; ++x) {
        Knots n = {first[x], weights[x], weights[TILE + x], weights[2 * TILE + x],
                   weights[3 * TILE + x]};
        if (!leaves_axis(n, length)) continue;
        n = folded(n, length);
        first[x] = n.first;
        weights[x] = n.w0;
        weights[TILE + x] = n.w1;
        weights[2 * TILE + x] = n.w2;
        weights[3 * TILE + x] = n.w3;
    }
}

// Sums over z and y: for each voxel four columns, side by side. They are the vector here, and
// need no gathers.
SEGREG_BODY void sum_columns(const float* coefficients, Grid grid, const AxisTile& z,
                             const AxisTile& y, const AxisTile& x, int count,
                             float* SEGREG_RESTRICT columns) {
    const Steps slices = steps(grid.depth, grid.height * grid.width);
    const Steps rows = steps(grid.height, grid.width);
    for (int v = 0; v < count; ++v) {
        const float* corner =
            coefficients + ((z.first[v] * grid.height + y.first[v]) * grid.width + x.first[v]);
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int i = 0; i < 4; ++i) {
            float plane[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            for (int j = 0; j < 4; ++j) {
                const float* row = corner + slices.by[i] + rows.by[j];
                const float weight = y.weights[j * TILE + v];
                for (int k = 0; k < 4; ++k) plane[k] += weight * row[k];
            }
            const float weight = z.weights[i * TILE + v];
            for (int k = 0; k < 4; ++k) sum[k] += weight * plane[k];
        }
        for (int k = 0; k < 4; ++k) columns[4 * v + k] = sum[k];
    }
}

// Rows of fewer than four voxels have no four columns.
void narrow_row(const float* coefficients, Grid grid, const float* positions, int width,
                float* warped) {
    for (int v = 0; v < width; ++v) {
        const Vector p = make_vector(positions[v], positions[width + v], positions[2 * width + v]);
        warped[v] = interpolate_cubic(coefficients, grid, p);
    }
}

SEGREG_CLONES
void wide_row(const float* coefficients, Grid grid, const float* positions, int width,
              float* warped) {
    AxisTile z, y, x;
    float columns[4 * TILE];
    for (int begin = 0; begin < width; begin += TILE) {
        const int count = least(TILE, width - begin);
        place_knots(positions + begin, count, grid.depth, z);
        place_knots(positions + width + begin, count, grid.height, y);
        place_knots(positions + 2 * width + begin, count, grid.width, x);
        sum_columns(coefficients, grid, z, y, x, count, columns);
        float* SEGREG_RESTRICT out = warped + begin;
        SEGREG_SIMD
        for (int v = 0; v < count; ++v) {
            out[v] = x.weights[v] * columns[4 * v] + x.weights[TILE + v] * columns[4 * v + 1] +
                     x.weights[2 * TILE + v] * columns[4 * v + 2] +
                     x.weights[3 * TILE + v] * columns[4 * v + 3];
        }
    }
}

}  // namespace

void cubic_row(const float* coefficients, Grid grid, const float* positions, int width,
               float* warped) {
    (grid.width < 4 ? narrow_row : wide_row)(coefficients, grid, positions, width, warped);
}

}  // namespace segreg
