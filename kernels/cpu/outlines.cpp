#include "blocks.hpp"
#include "kernels.hpp"
#include "means.hpp"
#include "pulls.cuh"
#include "steps.hpp"

namespace segreg {
namespace {

SEGREG_CLONES
void pull_row(const MovingSide& side, const int* SEGREG_RESTRICT words,
              const float* SEGREG_RESTRICT distances, const float* SEGREG_RESTRICT displacement,
              int z, int y, int begin, int end, Vector unit, const Tolerance& given, int64 voxels,
              float* SEGREG_RESTRICT pulls) {
    const MovingSide moving = side;
    const Tolerance tolerance = given;
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) {
        const Vector voxel =
            make_vector((float)z + displacement[x], (float)y + displacement[voxels + x],
                        (float)x + displacement[2 * voxels + x]);
        const Vector p = apply(moving.affine, voxel);
        const Corners c = corners(moving.grid, p);
        store_pull(pulls, voxels, x,
                   outline_at(moving, p, c, corner_indices(c), own_region(words[x]), distances[x],
                              unit, tolerance));
    }
}

SEGREG_CLONES
int any_pull(const float* away, int begin, int end) {
    int any = 0;
    for (int x = begin; x < end; ++x) any |= away[x] > 0.0f;
    return any;
}

// Adds the equations of a row's pulls; channels of `sums` lie `width` apart.
SEGREG_CLONES
void add_pulls(const float* SEGREG_RESTRICT pulls, int64 voxels,
               const float* SEGREG_RESTRICT weights, int begin, int end, int width,
               float* SEGREG_RESTRICT sums) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) {
        Normal sum = load_normal(sums, width, x);
        add_equation(sum, load_pull(pulls, voxels, x), weights[x]);
        store_normal(sums, width, x, 1.0f, sum);
    }
}

// What `mean_row` adds up along z: equations of pulls. Most rows have none.
struct PullRows {
    const float* pulls;  // of the row itself
    int64 voxels, slice;
    Span wanted;
    int width;
    float *centre, *sums;  // a row of weights, 9 rows
    bool any;

    void start(float weight) {
        for (int c = 0; c < 9; ++c) {
            std::fill(sums + c * width + wanted.begin, sums + c * width + wanted.end, 0.0f);
        }
        std::fill(centre + wanted.begin, centre + wanted.end, weight);
        add(0, centre, wanted);
    }

    void add(int k, const float* weights, Span part) {
        const float* there = pulls + k * slice;
        if (!any_pull(there + 3 * voxels, part.begin, part.end)) return;
        add_pulls(there, voxels, weights, part.begin, part.end, width, sums);
        any = true;
    }

    void divide(const float* total) const {
        for (int c = 0; any && c < 9; ++c) {
            divide_row(total, wanted.begin, wanted.end, sums + c * width);
        }
    }
};

// Pulls, how voxels are coupled, and how far the means of their equations reach.
struct Pulls {
    const float *pulls, *edges;
    Grid grid;
    Filter filter;
    float damping, longest;
    Vector unit;
};

// Slice by slice, as `smooth_within` does it: along z, along y, along x, and the step.
void follow_box(const Pulls& p, const Box& box, float* displacement) {
    const int width = p.grid.width;
    const int64 voxels = voxels_of(p.grid), slice = (int64)p.grid.height * width;
    const int low = most(0, box.y_begin - p.filter.y.radius);
    const int high = least(p.grid.height, box.y_end + p.filter.y.radius);
    const Span inner = {box.x_begin, box.x_end};
    const Span outer = {most(0, box.x_begin - p.filter.x.radius),
                        least(width, box.x_end + p.filter.x.radius)};
    std::vector<float> rows((size_t)(high - low) * 9 * width), across((size_t)9 * width);
    std::vector<float> normals((size_t)9 * width), centre(width);
    RowWeights room(width);
    const auto rows_at = [&](int y) { return rows.data() + (int64)(y - low) * 9 * width; };
    for (int z = box.z_begin; z < box.z_end; ++z) {
        bool any = false;
        for (int y = low; y < high; ++y) {
            const Row r = {0, z, y, z * slice + (int64)y * width};
            PullRows equations = {p.pulls + r.begin, voxels,        slice,      outer,
                                  width,             centre.data(), rows_at(y), false};
            mean_row(p.edges, p.grid, 0, r, outer, p.filter.z, 0, room, equations);
            any |= equations.any;
        }
        // Where nothing pulls, no voxel takes a step.
        for (int y = box.y_begin; any && y < box.y_end; ++y) {
            const Row r = {0, z, y, z * slice + (int64)y * width};
            mean_row(p.edges, p.grid, 1, r, outer, p.filter.y, 0, room,
                     channel_rows(
                         9, outer,
                         [&](int c, int k) { return rows_at(y + k) + (int64)c * width; },
                         [&](int c) { return across.data() + (int64)c * width; }));
            mean_row(p.edges, p.grid, 2, r, inner, p.filter.x, 0, room,
                     channel_rows(
                         9, inner,
                         [&](int c, int k) { return across.data() + (int64)c * width + k; },
                         [&](int c) { return normals.data() + (int64)c * width; }));
            step_range(normals.data(), width, inner.begin, inner.end, p.damping, p.longest, p.unit,
                       voxels, displacement + r.begin);
        }
    }
}

}  // namespace

void outline_pulls(int64 size, const int* moving_words, const float* moving_distances,
                   int moving_depth, int moving_height, int moving_width, Affine affine,
                   const int* fixed_words, const float* fixed_distances,
                   const float* displacement, int depth, int height, int width, float unit_z,
                   float unit_y, float unit_x, float margin, float slack, float rest,
                   float beyond, const unsigned char* marks, float* pulls) {
    const Grid grid = {depth, height, width};
    const MovingSide side = {nullptr, moving_words, moving_distances,
                             {moving_depth, moving_height, moving_width}, affine};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    const Tolerance tolerance = {margin, slack, rest, beyond};
    for_marked_blocks(marks, grid, [&](const Box& box) {
        for (int z = box.z_begin; z < box.z_end; ++z) {
            for (int y = box.y_begin; y < box.y_end; ++y) {
                const int64 at = ((int64)z * height + y) * width;
                pull_row(side, fixed_words + at, fixed_distances + at, displacement + at, z, y,
                         box.x_begin, box.x_end, unit, tolerance, size, pulls + at);
            }
        }
    });
}

void follow_pulls(int64, const float* pulls, const float* edges, int depth, int height, int width,
                  const float* weights, int radius_z, int radius_y, int radius_x, float damping,
                  float longest, float unit_z, float unit_y, float unit_x,
                  const unsigned char* marks, float* displacement) {
    const Pulls all = {pulls, edges, {depth, height, width},
                       make_filter(weights, radius_z, radius_y, radius_x, 0),
                       damping, longest, make_vector(unit_z, unit_y, unit_x)};
    for_marked_blocks(marks, all.grid,
                      [&](const Box& box) { follow_box(all, box, displacement); });
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
