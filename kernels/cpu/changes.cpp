#include "kernels.hpp"
#include "launch.hpp"
#include "matching.cuh"
#include "rows.hpp"

namespace segreg {
namespace {

// The change of a coarse field, and how a finer grid lies on it.
struct Change {
    const float* vectors;
    const int* regions;
    Grid grid;
    Affine to_coarse;  // scales and shifts alone
    Vector unit;
};

const int MIXED = -1;  // no region

// The region that four coarse rows share, or MIXED.
SEGREG_CLONES
void shared_regions(const int* r00, const int* r01, const int* r10, const int* r11, int width,
                    int* SEGREG_RESTRICT shared) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const bool alike = (r00[x] == r01[x]) & (r00[x] == r10[x]) & (r00[x] == r11[x]);
        shared[x] = alike ? r00[x] : MIXED;
    }
}

// Adds the change where all corners are of one region; elsewhere the voxel is marked.
SEGREG_CLONES
void add_shared(const float* SEGREG_RESTRICT change, const int* SEGREG_RESTRICT shared, int length,
                float scale, float shift, Vector unit, int width, int64 voxels,
                int* SEGREG_RESTRICT marks, float* SEGREG_RESTRICT displacement) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Neighbours n = neighbours(scale * (float)x + shift, length);
        const int low = shared[n.low], high = shared[n.high];
        const bool alike = (low == high) & (low != MIXED);
        const float counts = alike ? 1.0f : 0.0f;
        marks[x] = !alike;
        const Vector v = make_vector(
            counts * mix(change[n.low], change[n.high], n.fraction),
            counts * mix(change[length + n.low], change[length + n.high], n.fraction),
            counts * mix(change[2 * length + n.low], change[2 * length + n.high], n.fraction));
        move_by(displacement, voxels, x, v, unit);
    }
}

SEGREG_CLONES
void add_mixed(const Change& given, const int* regions, const Row& r, const int* places, int count,
               int64 voxels, float* displacement) {
    const Change change = given;
    SEGREG_SIMD
    for (int i = 0; i < count; ++i) {
        const int x = places[i];
        const Vector p = apply(change.to_coarse, make_vector((float)r.z, (float)r.y, (float)x));
        const Vector v = change_at(change.vectors, change.regions, change.grid, p, regions[x]);
        move_by(displacement, voxels, x, v, change.unit);
    }
}

}  // namespace

void add_change(int64 size, const float* change, const int* coarse, int coarse_depth,
                int coarse_height, int coarse_width, Affine to_coarse, float unit_z, float unit_y,
                float unit_x, const int* regions, int depth, int height, int width,
                float* displacement) {
    const Grid grid = {depth, height, width};
    const Change given = {change, coarse, {coarse_depth, coarse_height, coarse_width}, to_coarse,
                          make_vector(unit_z, unit_y, unit_x)};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        std::vector<float> vectors((size_t)3 * coarse_width);
        std::vector<int> shared(coarse_width), marks(width), places(width);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            const Vector p = apply(to_coarse, make_vector((float)r.z, (float)r.y, 0.0f));
            const Neighbours z = neighbours(p.z, coarse_depth), y = neighbours(p.y, coarse_height);
            const auto row = [&](int at_z, int at_y) {
                return coarse + ((int64)at_z * coarse_height + at_y) * coarse_width;
            };
            field_row(change, given.grid, z, y, vectors.data());
            shared_regions(row(z.low, y.low), row(z.low, y.high), row(z.high, y.low),
                           row(z.high, y.high), coarse_width, shared.data());
            add_shared(vectors.data(), shared.data(), coarse_width, to_coarse.m[10], p.x,
                       given.unit, width, size, marks.data(), displacement + r.begin);
            const int count = find_places(marks.data(), 1, width, places.data());
            add_mixed(given, regions + r.begin, r, places.data(), count, size,
                      displacement + r.begin);
        }
    });
}

}  // namespace segreg
