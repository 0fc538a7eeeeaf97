// Regions: counts and moments of each.
#pragma once

#include "platform.cuh"

namespace segreg {

// Columns of the integer table of `region_stats`.
enum Moment {
    VOXELS, SUM_Z, SUM_Y, SUM_X,
    SUM_ZZ, SUM_ZY, SUM_ZX, SUM_YY, SUM_YX, SUM_XX,
    LOW_Z, LOW_Y, LOW_X, HIGH_Z, HIGH_Y, HIGH_X, MOMENTS
};

SEGREG_BODY void clear_moments(int64* moments, double* intensities, int count) {
    for (int region = 0; region <= count; ++region) {
        int64* m = moments + (int64)region * MOMENTS;
        for (int i = 0; i < MOMENTS; ++i) m[i] = 0;
        m[LOW_Z] = m[LOW_Y] = m[LOW_X] = 0x7fffffff;
        intensities[2 * region] = intensities[2 * region + 1] = 0.0;
    }
}

SEGREG_BODY void widen(int64* low, int64* high, int first, int last) {
    if (first < *low) *low = first;
    if (last + 1 > *high) *high = last + 1;
}

// Adds the voxels [first, stop) of row (z, y), all of one region. Sums of x and x^2 are closed
// forms; intensities run through four fixed lanes, so the order never changes.
SEGREG_BODY void add_run(int64* m, double* intensity, const float* image, int z, int y, int first,
                         int stop) {
    const int64 n = stop - first, a = first, b = stop - 1;
    const int64 x = (a + b) * n / 2;
    const int64 xx = (b * (b + 1) * (2 * b + 1) - (a - 1) * a * (2 * a - 1)) / 6;
    m[VOXELS] += n;
    m[SUM_Z] += n * z;
    m[SUM_Y] += n * y;
    m[SUM_X] += x;
    m[SUM_ZZ] += n * z * z;
    m[SUM_ZY] += n * z * y;
    m[SUM_ZX] += x * z;
    m[SUM_YY] += n * y * y;
    m[SUM_YX] += x * y;
    m[SUM_XX] += xx;
    widen(m + LOW_Z, m + HIGH_Z, z, z);
    widen(m + LOW_Y, m + HIGH_Y, y, y);
    widen(m + LOW_X, m + HIGH_X, first, stop - 1);

    double sum[4] = {0, 0, 0, 0}, square[4] = {0, 0, 0, 0};
    for (int i = first; i < stop; i += 4) {
        for (int lane = 0; lane < 4; ++lane) {
            const double value = i + lane < stop ? (double)image[i + lane] : 0.0;
            sum[lane] += value;
            square[lane] += value * value;
        }
    }
    intensity[0] += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    intensity[1] += (square[0] + square[1]) + (square[2] + square[3]);
}

// One row, run by run. Background is skipped; a number outside 0..count is counted in the
// otherwise unused SUM_Z column of the background.
SEGREG_BODY void add_row(const int* regions, const float* image, int width, int z, int y,
                         int count, int64* moments, double* intensities) {
    int x = 0;
    while (x < width) {
        const int region = regions[x];
        const int first = x;
        while (x < width && regions[x] == region) ++x;
        if (region == 0) continue;
        if (region < 0 || region > count) {
            moments[SUM_Z] += x - first;
            continue;
        }
        add_run(moments + (int64)region * MOMENTS, intensities + 2 * region, image, z, y, first, x);
    }
}

// Table number `table` of `tables`: the rows from table * rows / tables up to the next table's.
SEGREG_BODY void sum_rows(const int* regions, const float* image, Grid grid, int64 table,
                          int64 tables, int count, int64* moments, double* intensities) {
    const int64 rows = (int64)grid.depth * grid.height;
    int64* m = moments + table * (count + 1) * MOMENTS;
    double* sums = intensities + table * (count + 1) * 2;
    clear_moments(m, sums, count);
    const int64 end = (table + 1) * rows / tables;
    for (int64 row = table * rows / tables; row < end; ++row) {
        add_row(regions + row * grid.width, image + row * grid.width, grid.width,
                (int)(row / grid.height), (int)(row % grid.height), count, m, sums);
    }
}

}  // namespace segreg
