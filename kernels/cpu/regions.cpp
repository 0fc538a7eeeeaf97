#include "regions.cuh"

#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {
namespace {

// Canvas positions c + u(c) of one sub-sample of every cell of a row: (3, side).
SEGREG_CLONES
void row_cells(const Canvas& region, Vector first, int side, float* SEGREG_RESTRICT cells) {
    const Canvas canvas = region;
    for (int x = 0; x < side; ++x) {
        cells[x] = first.z;
        cells[side + x] = first.y;
        cells[2 * side + x] = first.x + (float)x;
    }
    if (!canvas.displacement) return;
    SEGREG_SIMD
    for (int x = 0; x < side; ++x) {
        const Vector c = displaced(canvas, make_vector(first.z, first.y, first.x + (float)x));
        cells[x] = c.z;
        cells[side + x] = c.y;
        cells[2 * side + x] = c.x;
    }
}

// The same positions in the image.
SEGREG_CLONES
void row_positions(const Affine& affine, int side, float* SEGREG_RESTRICT positions) {
    const Affine a = affine;
    SEGREG_SIMD
    for (int x = 0; x < side; ++x) {
        const Vector p = apply(
            a, make_vector(positions[x], positions[side + x], positions[2 * side + x]));
        positions[x] = p.z;
        positions[side + x] = p.y;
        positions[2 * side + x] = p.x;
    }
}

SEGREG_CLONES
void row_values(const float* image, Grid grid, const Canvas& region, int side,
                const float* SEGREG_RESTRICT positions, float* SEGREG_RESTRICT values) {
    const Canvas canvas = region;
    SEGREG_SIMD
    for (int x = 0; x < side; ++x) {
        const Vector p = make_vector(positions[x], positions[side + x], positions[2 * side + x]);
        values[x] = region_value(image, grid, canvas, p);
    }
}

SEGREG_CLONES
void row_masks(const int* regions, Grid grid, int region, int side,
               const float* SEGREG_RESTRICT positions, float* SEGREG_RESTRICT masks) {
    SEGREG_SIMD
    for (int x = 0; x < side; ++x) {
        const Vector p = make_vector(positions[x], positions[side + x], positions[2 * side + x]);
        masks[x] = region_mask(regions, grid, region, p);
    }
}

// Buffers of one row: positions (3), values, masks, and the sums of value, mask and product.
struct RowBuffers {
    std::vector<float> memory;
    float *positions, *values, *masks, *sums;

    explicit RowBuffers(int side) : memory((size_t)8 * side) {
        positions = memory.data();
        values = positions + 3 * side;
        masks = values + side;
        sums = masks + side;
    }
};

SEGREG_CLONES
void add_samples(const float* SEGREG_RESTRICT values, const float* SEGREG_RESTRICT masks, int side,
                 float* SEGREG_RESTRICT sums) {
    SEGREG_SIMD
    for (int x = 0; x < side; ++x) {
        sums[x] += values[x];
        sums[side + x] += masks[x];
        sums[2 * side + x] += values[x] * masks[x];
    }
}

SEGREG_CLONES
bool any_positive(const float* masks, int side) {
    float largest = 0.0f;
    for (int x = 0; x < side; ++x) largest = std::max(largest, masks[x]);
    return largest > 0.0f;
}

void write_row(const float* sums, int side, float weight, float* out) {
    for (int x = 0; x < side; ++x) out[x] = sums[x] * weight;
}

}  // namespace

void region_stats(int64 size, const int* regions, const float* image, int depth, int height,
                  int width, int count, int64* moments, double* intensities) {
    parallel_ranges(size, 1, [&](int64 table, int64) {
        sum_rows(regions, image, {depth, height, width}, table, size, count, moments, intensities);
    });
}

void gather_regions(int64 size, const int* regions, const float* image, int depth, int height,
                    int width, const int* indices, const float* affines, const float* intensity,
                    const float* displacement, int field_side, const int* supersample, int side,
                    int channels, int masked_channel, int mask_channel, int image_channel,
                    float* batch) {
    const Grid grid = {depth, height, width};
    const Grid cells = {side, side, side};
    const int64 voxels = voxels_of(cells);
    // The order of the sums: value, mask, product.
    const int places[3] = {image_channel, mask_channel, masked_channel};
    parallel_ranges(size / side, rows_for(side), [&](int64 begin, int64 end) {
        RowBuffers row(side);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, cells);
            const Canvas canvas = canvas_of((int)r.batch, indices, affines, intensity,
                                            displacement, field_side, supersample, side);
            std::fill(row.sums, row.sums + 3 * side, 0.0f);
            for (int j = 0; j < canvas.samples; ++j) {
                const Vector first = make_vector((float)r.z, (float)r.y, 0.0f);
                row_cells(canvas, add(first, subsample(canvas, j)), side, row.positions);
                row_positions(canvas.affine, side, row.positions);
                row_masks(regions, grid, canvas.region, side, row.positions, row.masks);
                // Outside the region only the plain image has something to show.
                if (image_channel < 0 && !any_positive(row.masks, side)) continue;
                row_values(image, grid, canvas, side, row.positions, row.values);
                add_samples(row.values, row.masks, side, row.sums);
            }
            float* out = batch + r.batch * channels * voxels + r.begin;
            for (int j = 0; j < 3; ++j) {
                if (places[j] < 0) continue;
                write_row(row.sums + j * side, side, 1.0f / (float)canvas.samples,
                          out + places[j] * voxels);
            }
        }
    });
}

}  // namespace segreg
