#include "matching.cuh"

#include "blocks.hpp"
#include "kernels.hpp"
#include "launch.hpp"
#include "way.hpp"

namespace segreg {
namespace {

SEGREG_CLONES
void match_row(const MovingSide& side, const float* SEGREG_RESTRICT positions,
               const float* SEGREG_RESTRICT fixed, const int* SEGREG_RESTRICT words,
               const float* SEGREG_RESTRICT distances, Vector unit, const Tolerance& tolerance,
               int width, int64 voxels, float* SEGREG_RESTRICT matches) {
    const MovingSide moving = side;
    const Tolerance tolerated = tolerance;
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        const Match m =
            match_at(moving, p, own_region(words[x]), distances[x], unit, tolerated);
        store_match(matches, voxels, x, fixed[x], m);
    }
}

SEGREG_CLONES
void normal_range(int64 begin, int64 end, const float* SEGREG_RESTRICT fixed,
                  const float* SEGREG_RESTRICT fixed_means, const float* SEGREG_RESTRICT matches,
                  const float* SEGREG_RESTRICT means, const EquationWeights& given, int64 voxels,
                  float* SEGREG_RESTRICT normals) {
    const EquationWeights weights = given;
    SEGREG_SIMD
    for (int64 i = begin; i < end; ++i) {
        const Normal n = normal_at(fixed, fixed_means, matches, means, voxels, i, weights);
        store_normal(normals, voxels, i, 1.0f, n);
    }
}

SEGREG_CLONES
void step_range(int64 begin, int64 end, const float* SEGREG_RESTRICT normals, float damping,
                float longest, Vector unit, int64 voxels, float* SEGREG_RESTRICT displacement) {
    SEGREG_SIMD
    for (int64 i = begin; i < end; ++i) {
        const Vector step = solve_step(load_normal(normals, voxels, i), damping, longest);
        displacement[i] += step.z * unit.z;
        displacement[voxels + i] += step.y * unit.y;
        displacement[2 * voxels + i] += step.x * unit.x;
    }
}

SEGREG_CLONES
void change_row(const float* change, const int* coarse, Grid grid, const Affine& to_coarse,
                Vector unit, const int* SEGREG_RESTRICT regions, const Row& r, int width,
                int64 voxels, float* SEGREG_RESTRICT displacement) {
    const Affine there = to_coarse;
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = apply(there, make_vector((float)r.z, (float)r.y, (float)x));
        const Vector v = change_at(change, coarse, grid, p, regions[x]);
        displacement[x] += v.z * unit.z;
        displacement[voxels + x] += v.y * unit.y;
        displacement[2 * voxels + x] += v.x * unit.x;
    }
}

const int64 VOXELS = 8192;  // of a piece of work

}  // namespace

void match_sides(int64 size, const float* moving, const int* moving_words,
                 const float* moving_distances, int moving_depth, int moving_height,
                 int moving_width, Affine affine, const float* fixed, const int* fixed_words,
                 const float* fixed_distances, const float* displacement, int depth, int height,
                 int width, float unit_z, float unit_y, float unit_x, float margin, float slack,
                 float rest, float beyond, float* matches) {
    const Grid grid = {depth, height, width};
    const MovingSide side = {moving, moving_words, moving_distances,
                             {moving_depth, moving_height, moving_width}, affine};
    const Way way = {side.grid, grid, displacement, affine};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    const Tolerance tolerance = {margin, slack, rest, beyond};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        std::vector<float> positions((size_t)3 * width);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            row_positions(way, displacement, r, positions.data());
            match_row(side, positions.data(), fixed + r.begin, fixed_words + r.begin,
                      fixed_distances + r.begin, unit, tolerance, width, voxels_of(grid),
                      matches + r.begin);
        }
    });
}

void form_normals(int64 size, const float* fixed, const float* fixed_means, const float* matches,
                  const float* means, int, int, int, float image_weight,
                  float outline_weight, float floor, float* normals) {
    const EquationWeights weights = {image_weight, outline_weight, floor};
    parallel_ranges(size, VOXELS, [&](int64 begin, int64 end) {
        normal_range(begin, end, fixed, fixed_means, matches, means, weights, size, normals);
    });
}

void take_step(int64 size, const float* normals, int depth, int height, int width, float damping,
               float longest, float unit_z, float unit_y, float unit_x,
               const unsigned char* marks, float* displacement) {
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    for_marked_rows(marks, {depth, height, width}, VOXELS, [&](int64 begin, int64 end) {
        step_range(begin, end, normals, damping, longest, unit, size, displacement);
    });
}

void add_change(int64 size, const float* change, const int* coarse, int coarse_depth,
                int coarse_height, int coarse_width, Affine to_coarse, float unit_z, float unit_y,
                float unit_x, const int* regions, int depth, int height, int width,
                float* displacement) {
    const Grid grid = {depth, height, width};
    const Grid cells = {coarse_depth, coarse_height, coarse_width};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            change_row(change, coarse, cells, to_coarse, unit, regions + r.begin, r, width, size,
                       displacement + r.begin);
        }
    });
}

}  // namespace segreg
