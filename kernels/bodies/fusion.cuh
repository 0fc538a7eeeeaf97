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

// The four rows of cells around a row of fixed voxels: field grids lie along its axes, so a row is
// interpolated along z and y once, then along x voxel by voxel.
struct CellRows {
    int row00, row01, row10, row11;
    float z_fraction, y_fraction;
    float z, y;    // cells
    float beyond;  // mm from the row to the canvas along z and y
};

SEGREG_BODY float excess(float q, int length, float spacing) {
    const float last = (float)(length - 1);
    const float beyond = q < 0.0f ? -q : (q > last ? q - last : 0.0f);
    return beyond * spacing;
}

SEGREG_BODY CellRows cell_rows(const RegionMap& map, float z, float y) {
    CellRows c;
    c.z = map.scale.z * z + map.offset.z;
    c.y = map.scale.y * y + map.offset.y;
    const Neighbours nz = neighbours(c.z, map.grid.depth);
    const Neighbours ny = neighbours(c.y, map.grid.height);
    c.row00 = (nz.low * map.grid.height + ny.low) * map.grid.width;
    c.row01 = (nz.low * map.grid.height + ny.high) * map.grid.width;
    c.row10 = (nz.high * map.grid.height + ny.low) * map.grid.width;
    c.row11 = (nz.high * map.grid.height + ny.high) * map.grid.width;
    c.z_fraction = nz.fraction;
    c.y_fraction = ny.fraction;
    const float ez = excess(c.z, map.grid.depth, map.spacing.z);
    const float ey = excess(c.y, map.grid.height, map.spacing.y);
    c.beyond = sqrtf(ez * ez + ey * ey);
    return c;
}

SEGREG_BODY float on_rows(const float* volume, const CellRows& c, int column) {
    return mix(mix(volume[c.row00 + column], volume[c.row01 + column], c.y_fraction),
               mix(volume[c.row10 + column], volume[c.row11 + column], c.y_fraction),
               c.z_fraction);
}

SEGREG_BODY float cell_along(const RegionMap& map, float x) {
    return map.scale.x * x + map.offset.x;
}

// Displacement of a fixed voxel whose cell moves by u: to_voxel (q + u) - x.
SEGREG_BODY Vector mapped_displacement(const RegionMap& map, const CellRows& c, Vector voxel,
                                       Vector u) {
    const Vector moved = make_vector(c.z + u.z, c.y + u.y, cell_along(map, voxel.x) + u.x);
    return subtract(apply(map.to_voxel, moved), voxel);
}

SEGREG_BODY Vector region_displacement(const RegionMap& map, Vector voxel) {
    const CellRows c = cell_rows(map, voxel.z, voxel.y);
    const Neighbours n = neighbours(cell_along(map, voxel.x), map.grid.width);
    const Index cells = voxels_of(map.grid);
    const float* uz = map.field;
    const float* uy = map.field + cells;
    const float* ux = map.field + 2 * cells;
    const Vector u = make_vector(mix(on_rows(uz, c, n.low), on_rows(uz, c, n.high), n.fraction),
                                 mix(on_rows(uy, c, n.low), on_rows(uy, c, n.high), n.fraction),
                                 mix(on_rows(ux, c, n.low), on_rows(ux, c, n.high), n.fraction));
    return mapped_displacement(map, c, voxel, u);
}

// Beyond the canvas's border the way back to it is added.
SEGREG_BODY float distance_beyond(const RegionMap& map, const CellRows& c, float distance,
                                  float x) {
    const float ex = excess(cell_along(map, x), map.grid.width, map.spacing.x);
    return distance + sqrtf(c.beyond * c.beyond + ex * ex);
}

// Distance in mm of a fixed voxel to the region.
SEGREG_BODY float region_distance(const RegionMap& map, Vector voxel) {
    const CellRows c = cell_rows(map, voxel.z, voxel.y);
    const Neighbours n = neighbours(cell_along(map, voxel.x), map.grid.width);
    const float* d = map.distances;
    const float distance = mix(on_rows(d, c, n.low), on_rows(d, c, n.high), n.fraction);
    return distance_beyond(map, c, distance, voxel.x);
}

SEGREG_BODY float least_of_row(const float* distances, int width) {
    float nearest = distances[0];
    for (int x = 1; x < width; ++x) nearest = distances[x] < nearest ? distances[x] : nearest;
    return nearest;
}

// Whether any voxel of row (z, y) may be nearer to the region than `farthest`: `shadow` is the map
// whose distances (d, h, 1) are the least of each row of cells.
SEGREG_BODY bool row_reaches(const RegionMap& shadow, float z, float y, float farthest) {
    const CellRows c = cell_rows(shadow, z, y);
    return on_rows(shadow.distances, c, 0) + c.beyond < farthest;
}

// Modified Shepard weight (Franke and Little's), times falloff^2, so that the background's is 1.
// Held finite below 1 % of the falloff.
SEGREG_BODY float shepard_weight(float distance, float falloff) {
    const float least_distance = 0.01f * falloff;
    const float d = distance > least_distance ? distance : least_distance;
    const float w = (falloff - d) / d;
    return d < falloff ? w * w : 0.0f;
}

// 1 at distance 0, 0 from `reach` on, smooth at both ends.
SEGREG_BODY float feather(float distance, float reach) {
    const float t = distance / reach;
    return t < 1.0f ? 1.0f - t * t * (3.0f - 2.0f * t) : 0.0f;
}

SEGREG_BODY Vector weighted_sum(Vector sum, float weight, Vector displacement) {
    return make_vector(sum.z + weight * displacement.z, sum.y + weight * displacement.y,
                       sum.x + weight * displacement.x);
}

}  // namespace segreg
