#include "blocks.hpp"
#include "kernels.hpp"
#include "matching.cuh"

namespace segreg {
namespace {

SEGREG_CLONES
void outline_row(const MovingSide& side, const int* SEGREG_RESTRICT words,
                 const float* SEGREG_RESTRICT distances, const float* SEGREG_RESTRICT displacement,
                 int z, int y, int begin, int end, Vector unit, const Tolerance& given,
                 float weight, int64 voxels, float* SEGREG_RESTRICT errors,
                 float* SEGREG_RESTRICT normals) {
    const MovingSide moving = side;
    const Tolerance tolerance = given;
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) {
        const Vector voxel =
            make_vector((float)z + displacement[x], (float)y + displacement[voxels + x],
                        (float)x + displacement[2 * voxels + x]);
        const Vector p = apply(moving.affine, voxel);
        const Corners c = corners(moving.grid, p);
        const Sample off = outline_at(moving, p, c, corner_indices(c), own_region(words[x]),
                                      distances[x], unit, tolerance);
        const Normal n = outline_normal(off, weight);
        errors[x] = fabsf(off.value);
        store_normal(normals, voxels, x, 1.0f, n);
    }
}

}  // namespace

void outline_normals(int64 size, const int* moving_words, const float* moving_distances,
                     int moving_depth, int moving_height, int moving_width, Affine affine,
                     const int* fixed_words, const float* fixed_distances,
                     const float* displacement, int depth, int height, int width, float unit_z,
                     float unit_y, float unit_x, float margin, float slack, float rest,
                     float beyond, float weight, const unsigned char* marks, float* errors,
                     float* normals) {
    const Grid grid = {depth, height, width};
    const MovingSide side = {nullptr, moving_words, moving_distances,
                             {moving_depth, moving_height, moving_width}, affine};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    const Tolerance tolerance = {margin, slack, rest, beyond};
    const auto row = [&](int z, int y, int begin, int end) {
        const int64 at = ((int64)z * height + y) * width;
        outline_row(side, fixed_words + at, fixed_distances + at, displacement + at, z, y, begin,
                    end, unit, tolerance, weight, size, errors + at, normals + at);
    };
    if (!marks) {
        parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
            for (int64 i = begin; i < end; ++i) {
                const Row r = row_of(i, grid);
                row(r.z, r.y, 0, width);
            }
        });
        return;
    }
    for_marked_blocks(marks, grid, [&](const Box& box) {
        for (int z = box.z_begin; z < box.z_end; ++z) {
            for (int y = box.y_begin; y < box.y_end; ++y) row(z, y, box.x_begin, box.x_end);
        }
    });
}

void mark_blocks(int64 size, const float* errors, int depth, int height, int width, int rim,
                 float bound, unsigned char* marks) {
    const Grid grid = {depth, height, width}, all = blocks_of(grid);
    parallel_ranges(size / all.width, 1, [&](int64 row, int64) {
        const int z = (int)(row / all.height), y = (int)(row % all.height);
        for (int x = 0; x < all.width; ++x) {
            const Box box = box_of(grid, z, y, x, rim);
            marks[row * all.width + x] = any_above(errors, grid, box, bound);
        }
    });
}

}  // namespace segreg
