#include "fusion.cuh"

#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {
namespace {

// One row of the distance transform along another axis: all cells of the row look at the same
// number of steps at once, and stop when no step can help any of them.
SEGREG_CLONES
void distance_axis_row(const float* squares, int position, int length, int64 stride,
                       float spacing, int width, float* SEGREG_RESTRICT out) {
    for (int x = 0; x < width; ++x) out[x] = squares[x];
    const int reach = std::max(position, length - 1 - position);
    for (int steps = 1; steps <= reach; ++steps) {
        const float d = (float)steps * spacing;
        const float least_square = d * d;
        int open = 0;
        for (int x = 0; x < width; ++x) open |= out[x] > least_square;
        if (!open) break;
        if (position >= steps) {
            const float* low = squares - steps * stride;
            SEGREG_SIMD
            for (int x = 0; x < width; ++x) out[x] = nearer(out[x], low[x], steps, spacing);
        }
        if (position + steps < length) {
            const float* high = squares + steps * stride;
            SEGREG_SIMD
            for (int x = 0; x < width; ++x) out[x] = nearer(out[x], high[x], steps, spacing);
        }
    }
}

// A row of the fixed grid and the buffers to build its map in.
struct FusionRow {
    Grid grid;
    int z, y;
    float* displacement[3];
    std::vector<float> distances, weights;
};

struct Span {
    int begin, end;
};

// Displacement of one map over a span.
SEGREG_CLONES
void region_span(const RegionMap& region, int z, int y, Span span, float* SEGREG_RESTRICT dz,
                 float* SEGREG_RESTRICT dy, float* SEGREG_RESTRICT dx) {
    const RegionMap map = region;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const Vector d = region_displacement(map, make_vector((float)z, (float)y, (float)x));
        dz[x] = d.z;
        dy[x] = d.y;
        dx[x] = d.x;
    }
}

SEGREG_CLONES
void distance_span(const RegionMap& region, int z, int y, Span span,
                   float* SEGREG_RESTRICT distances) {
    const RegionMap map = region;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        distances[x] = region_distance(map, make_vector((float)z, (float)y, (float)x));
    }
}

// Adds one region's weighted displacement over a span of the background.
SEGREG_CLONES
void blend_span(const RegionMap& region, int z, int y, Span span, float falloff,
                const float* SEGREG_RESTRICT distances, float* SEGREG_RESTRICT weights,
                float* SEGREG_RESTRICT dz, float* SEGREG_RESTRICT dy, float* SEGREG_RESTRICT dx) {
    const RegionMap map = region;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const float w = shepard_weight(distances[x], falloff);
        const Vector d = region_displacement(map, make_vector((float)z, (float)y, (float)x));
        weights[x] += w;
        dz[x] += w * d.z;
        dy[x] += w * d.y;
        dx[x] += w * d.x;
    }
}

SEGREG_CLONES
void normalise_span(Span span, const float* SEGREG_RESTRICT weights, float* SEGREG_RESTRICT dz,
                    float* SEGREG_RESTRICT dy, float* SEGREG_RESTRICT dx) {
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const float share = 1.0f / weights[x];
        dz[x] *= share;
        dy[x] *= share;
        dx[x] *= share;
    }
}

// The part of a span whose distance to the canvas along x leaves room for the falloff.
Span within_reach(const RegionMap& map, float row_distance, float falloff, Span span) {
    const float room = sqrtf(falloff * falloff - row_distance * row_distance) / map.spacing.x;
    const float a = (-room - map.offset.x) / map.scale.x;
    const float b = ((float)(map.grid.width - 1) + room - map.offset.x) / map.scale.x;
    const float low = std::min(a, b), high = std::max(a, b);
    // One voxel of slack against rounding: the weight decides, this only saves time.
    const float begin = clamp(floorf(low) - 1.0f, (float)span.begin, (float)span.end);
    const float end = clamp(ceilf(high) + 2.0f, (float)span.begin, (float)span.end);
    return {(int)begin, (int)end};
}

Span nearer_than(float falloff, const float* distances, Span span) {
    while (span.begin < span.end && !(distances[span.begin] < falloff)) ++span.begin;
    while (span.begin < span.end && !(distances[span.end - 1] < falloff)) --span.end;
    return span;
}

// Blends the maps of the candidate regions and the background's over a span of the background.
void background_span(FusionRow& row, const std::vector<RegionMap>& maps,
                     const std::vector<int>& candidates, const std::vector<float>& row_distances,
                     const RegionMap& background, float falloff, Span span) {
    float* const* u = row.displacement;
    float* weights = row.weights.data();
    float* distances = row.distances.data();
    region_span(background, row.z, row.y, span, u[0], u[1], u[2]);
    std::fill(weights + span.begin, weights + span.end, 1.0f);
    bool blended = false;
    for (size_t i = 0; i < candidates.size(); ++i) {
        const RegionMap& map = maps[candidates[i]];
        Span near = within_reach(map, row_distances[i], falloff, span);
        distance_span(map, row.z, row.y, near, distances);
        near = nearer_than(falloff, distances, near);
        if (near.begin >= near.end) continue;
        blend_span(map, row.z, row.y, near, falloff, distances, weights, u[0], u[1], u[2]);
        blended = true;
    }
    if (blended) normalise_span(span, weights, u[0], u[1], u[2]);
}

// A row run by run: inside a region its own map, in the background the blend.
void fuse_row(FusionRow& row, const int* regions, const std::vector<RegionMap>& maps,
              const RegionMap& background, float falloff) {
    std::vector<int> candidates;
    std::vector<float> row_distances;
    for (size_t k = 0; k < maps.size(); ++k) {
        const float distance = row_excess(maps[k], (float)row.z, (float)row.y);
        if (!(distance < falloff)) continue;
        candidates.push_back((int)k);
        row_distances.push_back(distance);
    }
    float* const* u = row.displacement;
    for (int x = 0; x < row.grid.width;) {
        Span span = {x, x};
        const int region = regions[x];
        while (span.end < row.grid.width && regions[span.end] == region) ++span.end;
        if (region > 0 && region <= (int)maps.size()) {
            region_span(maps[region - 1], row.z, row.y, span, u[0], u[1], u[2]);
        } else {
            background_span(row, maps, candidates, row_distances, background, falloff, span);
        }
        x = span.end;
    }
}

}  // namespace

void distance_rows(int64 size, const unsigned char* mask, int length, const float* spacing,
                   int rows_each, float* squares) {
    parallel_ranges(size, rows_for(length), [&](int64 begin, int64 end) {
        for (int64 row = begin; row < end; ++row) {
            distance_row(mask + row * length, length, spacing[3 * (row / rows_each) + 2],
                         squares + row * length);
        }
    });
}

void distance_axis(int64 size, const float* squares, int depth, int height, int width,
                   const float* spacing, int axis, int root, float* distances) {
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const int length = axis == 0 ? depth : height;
    const int64 stride = axis == 0 ? (int64)height * width : width;
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 row = begin; row < end; ++row) {
            const Row r = row_of(row, grid);
            float* out = distances + voxels * r.batch + r.begin;
            distance_axis_row(squares + voxels * r.batch + r.begin, axis == 0 ? r.z : r.y, length,
                              stride, spacing[3 * r.batch + axis], width, out);
            for (int x = 0; root && x < width; ++x) out[x] = sqrtf(out[x]);
        }
    });
}

void fuse_fields(int64 size, const int* regions, int depth, int height, int width,
                 const float* fields, const float* distances, int count, int field_depth,
                 int field_height, int field_width, const float* to_field, const float* to_voxel,
                 const float* spacing, const float* background, int background_depth,
                 int background_height, int background_width, const float* background_to_field,
                 const float* background_to_voxel, float falloff, float* displacement) {
    const Grid grid = {depth, height, width};
    const Grid cells = {field_depth, field_height, field_width};
    const int64 voxels = voxels_of(grid);
    const Grid coarse = {background_depth, background_height, background_width};
    const RegionMap elsewhere =
        background_map(background, coarse, background_to_field, background_to_voxel);
    std::vector<RegionMap> maps;
    for (int k = 0; k < count; ++k) {
        maps.push_back(region_map(k, fields, distances, cells, to_field, to_voxel, spacing));
    }
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        FusionRow row;
        row.grid = grid;
        row.distances.resize(width);
        row.weights.resize(width);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            row.z = r.z;
            row.y = r.y;
            for (int c = 0; c < 3; ++c) row.displacement[c] = displacement + c * voxels + r.begin;
            fuse_row(row, regions + r.begin, maps, elsewhere, falloff);
        }
    });
}

}  // namespace segreg
