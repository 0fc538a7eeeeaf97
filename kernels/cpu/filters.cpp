#include "filters.cuh"

#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {
namespace {

// Rows of one batch entry that one piece of work makes.
struct Block {
    int z_begin, z_end, y_begin, y_end;
};

// Of the slices around one, the rows of a block should stay in a core's cache.
const int64 WINDOW_BYTES = 1 << 20;

// Four pairs a sweep: more would run out of registers, fewer would pass the sum more often.
SEGREG_BODY void add_four_pairs(const float* const* before, const float* const* after,
                                const float* weights, int width, float* SEGREG_RESTRICT sum) {
    const float *a0 = before[0], *a1 = before[-1], *a2 = before[-2], *a3 = before[-3];
    const float *b0 = after[0], *b1 = after[1], *b2 = after[2], *b3 = after[3];
    const float w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        sum[x] += w0 * (a0[x] + b0[x]) + w1 * (a1[x] + b1[x]) + w2 * (a2[x] + b2[x]) +
                  w3 * (a3[x] + b3[x]);
    }
}

// Weighted sum of 2 radius + 1 rows; none of them is `sum`.
SEGREG_BODY void add_rows(const float* const* rows, const Taps& taps, int width,
                          float* SEGREG_RESTRICT sum) {
    const float* const* middle = rows + taps.radius;
    const float* centre = *middle;
    const float weight = taps.weights[0];
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) sum[x] = weight * centre[x];
    int k = 1;
    for (; k + 3 <= taps.radius; k += 4) {
        add_four_pairs(middle - k, middle + k, taps.weights + k, width, sum);
    }
    for (; k <= taps.radius; ++k) {
        const float *before = middle[-k], *after = middle[k];
        const float w = taps.weights[k];
        SEGREG_SIMD
        for (int x = 0; x < width; ++x) sum[x] += w * (before[x] + after[x]);
    }
}

// Memory of one block, and pointers to the rows of each sum.
struct Buffers {
    std::vector<float> rows, padded;
    std::vector<const float*> slices, neighbours, shifted;
};

// Slice by slice: rows are filtered along z into a buffer, from there along y into a padded row,
// from there along x into the result.
SEGREG_CLONES
void filter_block(const float* volume, Grid grid, const Filter& f, Block block, Buffers& buffers,
                  float* result) {
    const int width = grid.width;
    const int low = most(0, block.y_begin - f.y.radius);
    const int high = least(grid.height, block.y_end + f.y.radius);
    float* rows = buffers.rows.data();
    float* padded = buffers.padded.data();
    for (int i = 0; i <= 2 * f.x.radius; ++i) buffers.shifted[i] = padded + i;
    for (int z = block.z_begin; z < block.z_end; ++z) {
        for (int y = low; y < high; ++y) {
            for (int k = -f.z.radius; k <= f.z.radius; ++k) {
                const int64 row =
                    (int64)border_index(z + k, grid.depth, f.mirror) * grid.height + y;
                buffers.slices[k + f.z.radius] = volume + row * width;
            }
            add_rows(buffers.slices.data(), f.z, width, rows + (int64)(y - low) * width);
        }
        for (int y = block.y_begin; y < block.y_end; ++y) {
            for (int j = -f.y.radius; j <= f.y.radius; ++j) {
                const int row = border_index(y + j, grid.height, f.mirror) - low;
                buffers.neighbours[j + f.y.radius] = rows + (int64)row * width;
            }
            float* middle = padded + f.x.radius;
            add_rows(buffers.neighbours.data(), f.y, width, middle);
            for (int i = 1; i <= f.x.radius; ++i) {
                middle[-i] = middle[border_index(-i, width, f.mirror)];
                middle[width - 1 + i] = middle[border_index(width - 1 + i, width, f.mirror)];
            }
            add_rows(buffers.shifted.data(), f.x, width,
                     result + ((int64)z * grid.height + y) * width);
        }
    }
}

Buffers make_buffers(const Filter& f, int rows, int width) {
    Buffers b;
    b.rows.resize((size_t)rows * width);
    b.padded.resize((size_t)width + 2 * f.x.radius);
    b.slices.resize(2 * f.z.radius + 1);
    b.neighbours.resize(2 * f.y.radius + 1);
    b.shifted.resize(2 * f.x.radius + 1);
    return b;
}

// Rows to a block: as many as the window holds, yet not fewer than are filtered along z beside it.
int block_height(const Filter& f, Grid grid) {
    const int64 row_bytes = (int64)sizeof(float) * grid.width * (2 * f.z.radius + 1);
    const int64 fitting = WINDOW_BYTES / row_bytes - 2 * f.y.radius;
    return most((int)fitting, most(2 * f.y.radius, 8));
}

// Slices to a block: the reading of the first one's neighbours is spread over them.
int block_depth(const Filter& f) {
    return most(4 * f.z.radius, 8);
}

int divided(int length, int part) {
    return (length + part - 1) / part;
}

}  // namespace

void filter(int64 size, const float* volume, int depth, int height, int width,
            const float* weights, int radius_z, int radius_y, int radius_x, int mirror,
            float* result) {
    const Grid grid = {depth, height, width};
    const Filter f = make_filter(weights, radius_z, radius_y, radius_x, mirror);
    const int along_z = divided(depth, block_depth(f)), slices = divided(depth, along_z);
    const int along_y = divided(height, block_height(f, grid)), rows = divided(height, along_y);
    const int64 blocks = (int64)along_z * along_y;
    parallel_ranges(size / voxels_of(grid) * blocks, 1, [&](int64 piece, int64) {
        const int64 offset = piece / blocks * voxels_of(grid);
        const int z = (int)(piece % blocks) / along_y * slices, y = (int)(piece % along_y) * rows;
        const Block block = {least(depth, z), least(depth, z + slices), least(height, y),
                             least(height, y + rows)};
        Buffers buffers = make_buffers(f, rows + 2 * radius_y, width);
        filter_block(volume + offset, grid, f, block, buffers, result + offset);
    });
}

}  // namespace segreg
