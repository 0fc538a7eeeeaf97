// Regions: counts and moments of each, and the canvas that a network sees of each.
#pragma once

#include "interpolation.cuh"

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

// The two neighbours of a position on one axis and their trilinear weights, which fall to zero
// outside the volume. An axis of one voxel has no outside.
struct Hats {
    int low, high;
    float low_hat, high_hat;
};

SEGREG_BODY float hat(float distance) {
    const float h = 1.0f - fabsf(distance);
    return h > 0.0f ? h : 0.0f;
}

SEGREG_BODY Hats hats(float position, int length) {
    Hats h;
    h.low = least((int)clamp(position, 0.0f, (float)(length - 1)), most(length - 2, 0));
    h.high = least(h.low + 1, length - 1);
    h.low_hat = length > 1 ? hat(position - (float)h.low) : 1.0f;
    h.high_hat = length > 1 ? hat(position - (float)h.high) : 0.0f;
    return h;
}

// One region's canvas.
struct Canvas {
    Affine affine;  // canvas index -> image voxel
    const float* displacement;  // null for none
    Grid field;
    float ratio;  // field cells to a canvas cell
    int region;
    float centre, scale;
    int samples_z, samples_y, samples_x, samples;
};

SEGREG_BODY Canvas canvas_of(int k, const int* indices, const float* affines,
                             const float* intensity, const float* displacement, int field_side,
                             const int* supersample, int side) {
    Canvas c;
    c.affine = load_affine(affines + 12 * k);
    c.field.depth = c.field.height = c.field.width = field_side;
    c.displacement = displacement ? displacement + 3 * voxels_of(c.field) * k : displacement;
    c.ratio = (float)field_side / (float)side;
    c.region = indices[k];
    c.centre = intensity[2 * k];
    c.scale = intensity[2 * k + 1];
    c.samples_z = supersample ? supersample[3 * k] : 1;
    c.samples_y = supersample ? supersample[3 * k + 1] : 1;
    c.samples_x = supersample ? supersample[3 * k + 2] : 1;
    c.samples = c.samples_z * c.samples_y * c.samples_x;
    return c;
}

// Place of a sub-sample in its cell, from the cell's centre.
SEGREG_BODY Vector subsample(const Canvas& c, int index) {
    const int x = index % c.samples_x;
    const int y = index / c.samples_x % c.samples_y;
    const int z = index / c.samples_x / c.samples_y;
    return make_vector(((float)z + 0.5f) / (float)c.samples_z - 0.5f,
                       ((float)y + 0.5f) / (float)c.samples_y - 0.5f,
                       ((float)x + 0.5f) / (float)c.samples_x - 0.5f);
}

// c + u(c), u on cells of its own over the same canvas.
SEGREG_BODY Vector displaced(const Canvas& c, Vector cell) {
    const Vector q =
        make_vector((cell.z + 0.5f) * c.ratio - 0.5f, (cell.y + 0.5f) * c.ratio - 0.5f,
                    (cell.x + 0.5f) * c.ratio - 0.5f);
    return add(cell, interpolate_vector(c.displacement, c.field, q));
}

// The image at one position, as the network sees it.
SEGREG_BODY float region_value(const float* image, Grid grid, const Canvas& canvas, Vector p) {
    const float value = interpolate(image, corners(grid, p));
    return clamp((value - canvas.centre) * canvas.scale, -1.0f, 1.0f);
}

// The share of the region at one position.
SEGREG_BODY float region_mask(const int* regions, Grid grid, int region, Vector p) {
    const Hats z = hats(p.z, grid.depth);
    const Hats y = hats(p.y, grid.height);
    const Hats x = hats(p.x, grid.width);
    const int rows[4] = {(z.low * grid.height + y.low) * grid.width,
                         (z.low * grid.height + y.high) * grid.width,
                         (z.high * grid.height + y.low) * grid.width,
                         (z.high * grid.height + y.high) * grid.width};
    const float weights[4] = {z.low_hat * y.low_hat, z.low_hat * y.high_hat,
                              z.high_hat * y.low_hat, z.high_hat * y.high_hat};
    float mask = 0.0f;
    for (int i = 0; i < 4; ++i) {
        const float low = regions[rows[i] + x.low] == region ? x.low_hat : 0.0f;
        const float high = regions[rows[i] + x.high] == region ? x.high_hat : 0.0f;
        mask += weights[i] * (low + high);
    }
    return mask;
}

}  // namespace segreg
