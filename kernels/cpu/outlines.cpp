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
int any_error(const float* errors, const Grid& grid, const Box& box, float bound) {
    return any_above(errors, grid, box, bound);
}

// Whether any voxel of a row pulls, or resists.
SEGREG_CLONES
int any_pull(const float* pulls, int64 voxels, int begin, int end) {
    int any = 0;
    for (int c = 0; c < PULL_CHANNELS; ++c) {
        for (int x = begin; x < end; ++x) any |= pulls[c * voxels + x] != 0.0f;
    }
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

// Pulls, how voxels are coupled, and how far the means of their equations reach.
struct Pulls {
    const float *pulls, *edges;
    Grid grid;
    Filter filter;
    float damping, longest;
    Vector unit;
};

// Buffers of a box: which rows have pulls, which have any near along z; equations of rows, and what
// becomes of them along y, with room beside it, and along x.
struct PullRoom {
    int64 width, padded;
    std::vector<char> pulled, near;
    std::vector<float> rows, across, normals;
    RowWeights weights;

    explicit PullRoom(const Pulls& p)
        : width(p.grid.width),
          padded(width + 2 * p.filter.x.radius),
          pulled((size_t)(BLOCK_HEIGHT + 2 * p.filter.y.radius) *
                 (BLOCK_DEPTH + 2 * p.filter.z.radius)),
          near((size_t)(BLOCK_HEIGHT + 2 * p.filter.y.radius)),
          rows(near.size() * 9 * width),
          across((size_t)(9 * padded)),
          normals((size_t)(9 * width)),
          weights(p.grid.width, p.filter) {}
};

bool any_of(const std::vector<char>& flags, int64 first, int64 last, int64 step) {
    for (int64 i = first; i <= last; i += step) {
        if (flags[(size_t)i]) return true;
    }
    return false;
}

// The rows that a box's steps are made of: its own and those around it.
struct Around {
    int top, bottom, low, high;
    Span inner, outer;

    Around(const Pulls& p, const Box& box)
        : top(most(0, box.z_begin - p.filter.z.radius)),
          bottom(least(p.grid.depth, box.z_end + p.filter.z.radius)),
          low(most(0, box.y_begin - p.filter.y.radius)),
          high(least(p.grid.height, box.y_end + p.filter.y.radius)),
          inner{box.x_begin, box.x_end},
          outer(filled({most(0, box.x_begin - p.filter.x.radius), box.x_end + p.filter.x.radius})) {
        outer.end = least(outer.end, p.grid.width);
    }

    int64 rows() const { return high - low; }
    int64 flag(int z, int y) const { return (z - top) * rows() + y - low; }
};

Row row_at(Grid grid, int z, int y) {
    return {0, z, y, ((int64)z * grid.height + y) * grid.width};
}

void find_pulled(const Pulls& p, const Around& around, PullRoom& room) {
    for (int z = around.top; z < around.bottom; ++z) {
        for (int y = around.low; y < around.high; ++y) {
            const float* pulls = p.pulls + row_at(p.grid, z, y).begin;
            room.pulled[(size_t)around.flag(z, y)] =
                any_pull(pulls, voxels_of(p.grid), around.outer.begin, around.outer.end) != 0;
        }
    }
}

// The equations of a slice's rows: means along z. Most rows have no pull near them.
void mean_pulls(const Pulls& p, const Around& around, int z, PullRoom& room) {
    const int width = p.grid.width;
    const int64 slice = (int64)p.grid.height * width;
    const Span outer = around.outer;
    const Offsets deep = offsets_at(z, p.grid.depth, p.filter.z.radius);
    for (int y = around.low; y < around.high; ++y) {
        float* sums = room.rows.data() + (y - around.low) * 9 * width;
        for (int c = 0; c < 9; ++c) {
            std::fill(sums + c * width + outer.begin, sums + c * width + outer.end, 0.0f);
        }
        const bool near = any_of(room.pulled, around.flag(z + deep.first, y),
                                 around.flag(z + deep.last, y), around.rows());
        room.near[(size_t)(y - around.low)] = near;
        if (!near) continue;
        const Row r = row_at(p.grid, z, y);
        room.weights.weigh(p.edges, p.grid, 0, r, outer, p.filter.z, 0);
        for (int k = deep.first; k <= deep.last; ++k) {
            if (!room.pulled[(size_t)around.flag(z + k, y)]) continue;
            add_pulls(p.pulls + r.begin + k * slice, voxels_of(p.grid), room.weights.at(k),
                      outer.begin, outer.end, width, sums);
        }
    }
}

// Slice by slice, as `smooth_within` does it: along z, along y, along x, and the step. Where
// nothing pulls near, none is taken.
void follow_box(const Pulls& p, const Box& box, PullRoom& room, float* displacement) {
    const int width = p.grid.width, pad = p.filter.x.radius;
    const Around around(p, box);
    const Span inner = around.inner, outer = around.outer;
    find_pulled(p, around, room);
    for (int z = box.z_begin; z < box.z_end; ++z) {
        mean_pulls(p, around, z, room);
        for (int y = box.y_begin; y < box.y_end; ++y) {
            const Offsets tall = offsets_at(y, p.grid.height, p.filter.y.radius);
            const int row = y - around.low;
            if (!any_of(room.near, row + tall.first, row + tall.last, 1)) continue;
            const Row r = row_at(p.grid, z, y);
            room.weights.weigh(p.edges, p.grid, 1, r, outer, p.filter.y, 0);
            mean_row({9, room.rows.data() + row * 9 * width, 9 * width, width,
                      room.across.data() + pad, room.padded},
                     room.weights.at(0), width, tall, outer.begin, outer.end);
            room.weights.weigh(p.edges, p.grid, 2, r, inner, p.filter.x, 0);
            mean_row({9, room.across.data() + pad, 1, room.padded, room.normals.data(), width},
                     room.weights.at(0), width, {-pad, pad}, inner.begin, inner.end);
            step_range(room.normals.data(), width, inner.begin, inner.end, p.damping, p.longest,
                       p.unit, voxels_of(p.grid), displacement + r.begin);
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
    for_marked_blocks(marks, grid, [] { return 0; }, [&](const Box& box, int) {
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
    for_marked_blocks(
        marks, all.grid, [&] { return PullRoom(all); },
        [&](const Box& box, PullRoom& room) { follow_box(all, box, room, displacement); });
}

void mark_blocks(int64 size, const float* errors, int depth, int height, int width, int rim,
                 float bound, unsigned char* marks) {
    const Grid grid = {depth, height, width}, all = blocks_of(grid);
    parallel_ranges(size / all.width, 1, [&](int64 row, int64) {
        const int z = (int)(row / all.height), y = (int)(row % all.height);
        for (int x = 0; x < all.width; ++x) {
            const Box box = box_of(grid, z, y, x, rim);
            marks[row * all.width + x] = any_error(errors, grid, box, bound) != 0;
        }
    });
}

}  // namespace segreg
