// Distances to regions, and the one map that is made of many.
#pragma once

#include "interpolation.cuh"

namespace segreg {

// Square of the distance (1e6 mm) that stands for "no cell of the mask anywhere".
#define SEGREG_FAR 1.0e12f

// Squared distance along one row to the nearest nonzero cell, by a sweep each way.
SEGREG_BODY void distance_row(const unsigned char* mask, int length, float spacing,
                              float* squares) {
    int last = -1;
    for (int i = 0; i < length; ++i) {
        if (mask[i]) last = i;
        const float d = (float)(i - last) * spacing;
        squares[i] = last >= 0 ? d * d : SEGREG_FAR;
    }
    last = -1;
    for (int i = length - 1; i >= 0; --i) {
        if (mask[i]) last = i;
        if (last < 0) continue;
        const float d = (float)(last - i) * spacing;
        const float square = d * d;
        squares[i] = square < squares[i] ? square : squares[i];
    }
}

// Term of the separable distance transform: d^2(p) = min over q of f(q) + (spacing (p - q))^2.
SEGREG_BODY float nearer(float best, float square, int steps, float spacing) {
    const float d = (float)steps * spacing;
    const float candidate = square + d * d;
    return candidate < best ? candidate : best;
}

// The region's own grid of field cells, and the maps into and out of it.
struct RegionMap {
    const float* field;      // (3, d, h, w), field cells
    const float* distances;  // (d, h, w), mm
    Grid grid;
    Vector scale, offset;  // fixed voxel -> field cell: q = scale * x + offset
    Affine to_voxel;       // field cell -> mapped position, fixed voxels
    Vector spacing;        // mm of a field cell
};

SEGREG_BODY RegionMap region_map(int k, const float* fields, const float* distances, Grid grid,
                                 const float* to_field, const float* to_voxel,
                                 const float* spacing) {
    const Index cells = voxels_of(grid);
    const float* f = to_field + 12 * k;
    RegionMap map;
    map.field = fields + 3 * cells * k;
    map.distances = distances + cells * k;
    map.grid = grid;
    map.scale = make_vector(f[0], f[5], f[10]);
    map.offset = make_vector(f[3], f[7], f[11]);
    map.to_voxel = load_affine(to_voxel + 12 * k);
    map.spacing = make_vector(spacing[3 * k], spacing[3 * k + 1], spacing[3 * k + 2]);
    return map;
}

// The background's map has no distance and no spacing: it reaches everywhere.
SEGREG_BODY RegionMap background_map(const float* field, Grid grid, const float* to_field,
                                     const float* to_voxel) {
    const float unused[3] = {0.0f, 0.0f, 0.0f};
    return region_map(0, field, nullptr, grid, to_field, to_voxel, unused);
}

SEGREG_BODY Vector to_cell(const RegionMap& map, Vector voxel) {
    return make_vector(map.scale.z * voxel.z + map.offset.z, map.scale.y * voxel.y + map.offset.y,
                       map.scale.x * voxel.x + map.offset.x);
}

// Displacement that the region's map gives a fixed voxel: to_voxel (q + u(q)) - x.
SEGREG_BODY Vector region_displacement(const RegionMap& map, Vector voxel) {
    const Vector q = to_cell(map, voxel);
    const Vector moved = add(q, interpolate_vector(map.field, map.grid, q));
    return subtract(apply(map.to_voxel, moved), voxel);
}

SEGREG_BODY float excess(float q, int length, float spacing) {
    const float last = (float)(length - 1);
    const float beyond = q < 0.0f ? -q : (q > last ? q - last : 0.0f);
    return beyond * spacing;
}

// Least distance in mm of any point of row (z, y) to the canvas.
SEGREG_BODY float row_excess(const RegionMap& map, float z, float y) {
    const float ez = excess(map.scale.z * z + map.offset.z, map.grid.depth, map.spacing.z);
    const float ey = excess(map.scale.y * y + map.offset.y, map.grid.height, map.spacing.y);
    return sqrtf(ez * ez + ey * ey);
}

// Distance in mm of a fixed voxel to the region: the canvas holds it, beyond its border the way
// back to the border is added.
SEGREG_BODY float region_distance(const RegionMap& map, Vector voxel) {
    const Vector q = to_cell(map, voxel);
    const Vector beyond = make_vector(excess(q.z, map.grid.depth, map.spacing.z),
                                      excess(q.y, map.grid.height, map.spacing.y),
                                      excess(q.x, map.grid.width, map.spacing.x));
    return interpolate(map.distances, corners(map.grid, q)) + sqrtf(squared_length(beyond));
}

// Modified Shepard weight (Franke and Little's), times falloff^2, so that the background's is 1.
// Held finite below 1 % of the falloff.
SEGREG_BODY float shepard_weight(float distance, float falloff) {
    const float least_distance = 0.01f * falloff;
    const float d = distance > least_distance ? distance : least_distance;
    const float w = (falloff - d) / d;
    return d < falloff ? w * w : 0.0f;
}

// Weighted sum of displacements. The background's map comes first, with weight 1, then the
// regions in rising order, on every machine.
struct Blend {
    Vector sum;
    float weight;
};

SEGREG_BODY Blend begin_blend(const RegionMap& background, Vector voxel) {
    Blend b;
    b.sum = region_displacement(background, voxel);
    b.weight = 1.0f;
    return b;
}

SEGREG_BODY Blend blended(Blend b, float weight, Vector displacement) {
    b.sum = add(b.sum, make_vector(weight * displacement.z, weight * displacement.y,
                                   weight * displacement.x));
    b.weight += weight;
    return b;
}

SEGREG_BODY Vector blend_result(Blend b) {
    const float share = 1.0f / b.weight;
    return make_vector(b.sum.z * share, b.sum.y * share, b.sum.x * share);
}

}  // namespace segreg
