// Memory that a piece of work is about to sample, loaded in order before it begins: samples that
// miss the caches wait for one line after another on some processors.
#pragma once

#include "blocks.cuh"
#include "interpolation.cuh"
#include "launch.hpp"
#include "way.hpp"

namespace segreg {
namespace {

const int LOOKED_AT = 4, APART = 16;  // one row in so many, and along it one voxel in so many
const int64 CACHED = 1 << 17;         // a volume of so many values is in the caches anyway
const int64 WORTH = 64;               // values to a voxel; a wider box is not dense enough

// The part of a moving grid that some rows of a fixed grid look into, by a few of their positions.
// A guess: nothing but time depends on it.
struct Sight {
    Vector low = {1e9f, 1e9f, 1e9f}, high = {-1e9f, -1e9f, -1e9f};

    void widen(Vector p) {
        low = make_vector(fminf(low.z, p.z), fminf(low.y, p.y), fminf(low.x, p.x));
        high = make_vector(fmaxf(high.z, p.z), fmaxf(high.y, p.y), fmaxf(high.x, p.x));
    }

    // Rows [begin, end), where voxel x of a row looks at position(row, x).
    template <typename Position>
    void add_rows(Grid fixed, int64 begin, int64 end, const Position& position) {
        for (int64 i = begin; i < end + LOOKED_AT - 1; i += LOOKED_AT) {
            const Row r = row_of(std::min(i, end - 1), fixed);
            for (int x = 0; x < fixed.width; x += APART) widen(position(r, x));
            widen(position(r, fixed.width - 1));
        }
    }

    Box box_in(Grid moving) const {
        const auto end = [](float position, int length) {
            return least((int)clamp(position, 0.0f, (float)length), length);
        };
        return {end(low.z, moving.depth),  end(high.z + 2.0f, moving.depth),
                end(low.y, moving.height), end(high.y + 2.0f, moving.height),
                end(low.x, moving.width),  end(high.x + 2.0f, moving.width)};
    }
};

template <typename Position>
Box looked_at(Grid fixed, Grid moving, int64 begin, int64 end, const Position& position) {
    Sight sight;
    sight.add_rows(fixed, begin, end, position);
    return sight.box_in(moving);
}

// The same of rows that look along a way.
inline Box looked_at(const Way& way, int64 begin, int64 end) {
    const int64 voxels = voxels_of(way.fixed);
    return looked_at(way.fixed, way.moving, begin, end, [&](const Row& r, int x) {
        const float* own = way.displacement ? way.displacement + 3 * voxels * r.batch : nullptr;
        return position_of(way, own, r, x);
    });
}

// Loads a box of a volume, unless it is much more than `voxels` need or the caches hold it all.
// Real loads: prefetches are dropped where many are under way.
template <typename Value>
void fetch_ahead(const Value* volume, Grid grid, const Box& box, int64 voxels) {
    const int64 rows = (int64)(box.z_end - box.z_begin) * (box.y_end - box.y_begin);
    if (voxels_of(grid) < CACHED || rows * (box.x_end - box.x_begin) > WORTH * voxels) return;
    for (int z = box.z_begin; z < box.z_end; ++z) {
        for (int y = box.y_begin; y < box.y_end; ++y) {
            const volatile Value* row = volume + ((int64)z * grid.height + y) * grid.width;
            for (int x = box.x_begin; x < box.x_end; x += 64 / (int)sizeof(Value)) (void)row[x];
        }
    }
}

}  // namespace
}  // namespace segreg
