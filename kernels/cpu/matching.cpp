#include "matching.cuh"

#include "ahead.hpp"
#include "kernels.hpp"
#include "launch.hpp"
#include "steps.hpp"
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
        const Box box = looked_at(way, begin, end);
        const int64 voxels = (end - begin) * width;
        fetch_ahead(moving, side.grid, box, voxels);
        fetch_ahead(moving_words, side.grid, box, voxels);
        fetch_ahead(moving_distances, side.grid, box, voxels);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            row_positions(way, displacement, r, positions.data());
            match_row(side, positions.data(), fixed + r.begin, fixed_words + r.begin,
                      fixed_distances + r.begin, unit, tolerance, width, voxels_of(grid),
                      matches + r.begin);
        }
    });
}

void take_step(int64 size, const float* normals, int, int, int, float damping,
               float longest, float unit_z, float unit_y, float unit_x, float* displacement) {
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    parallel_ranges(size, VOXELS, [&](int64 begin, int64 end) {
        step_range(normals, size, begin, end, damping, longest, unit, size, displacement);
    });
}

}  // namespace segreg
