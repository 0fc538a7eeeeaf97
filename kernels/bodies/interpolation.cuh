// Trilinear and nearest samples at cell-centred positions, and ITK's rule for what lies outside.
#pragma once

#include "platform.cuh"

namespace segreg {

// The two neighbours of a position on one axis, the position clamped to the volume.
struct Neighbours {
    int low, high;
    float fraction;
};

SEGREG_BODY Neighbours neighbours(float position, int length) {
    const float inside = clamp(position, 0.0f, (float)(length - 1));
    Neighbours n;
    n.low = (int)inside;  // inside >= 0: truncation is floor
    n.high = least(n.low + 1, length - 1);
    n.fraction = inside - (float)n.low;
    return n;
}

// Flat indices of the four rows and two columns around a position.
struct Corners {
    int row00, row01, row10, row11;
    Neighbours z, y, x;
};

SEGREG_BODY Corners corners(Grid grid, Vector p) {
    Corners c;
    c.z = neighbours(p.z, grid.depth);
    c.y = neighbours(p.y, grid.height);
    c.x = neighbours(p.x, grid.width);
    c.row00 = (c.z.low * grid.height + c.y.low) * grid.width;
    c.row01 = (c.z.low * grid.height + c.y.high) * grid.width;
    c.row10 = (c.z.high * grid.height + c.y.low) * grid.width;
    c.row11 = (c.z.high * grid.height + c.y.high) * grid.width;
    return c;
}

// Exact at both ends, and never beyond them.
SEGREG_BODY float mix(float a, float b, float fraction) {
    return (1.0f - fraction) * a + fraction * b;
}

SEGREG_BODY float interpolate(const float* volume, const Corners& c) {
    const float v00 = mix(volume[c.row00 + c.x.low], volume[c.row00 + c.x.high], c.x.fraction);
    const float v01 = mix(volume[c.row01 + c.x.low], volume[c.row01 + c.x.high], c.x.fraction);
    const float v10 = mix(volume[c.row10 + c.x.low], volume[c.row10 + c.x.high], c.x.fraction);
    const float v11 = mix(volume[c.row11 + c.x.low], volume[c.row11 + c.x.high], c.x.fraction);
    return mix(mix(v00, v01, c.y.fraction), mix(v10, v11, c.y.fraction), c.z.fraction);
}

// One displacement, the field's border held beyond it.
SEGREG_BODY Vector interpolate_vector(const float* field, Grid grid, Vector p) {
    const Index voxels = voxels_of(grid);
    const Corners c = corners(grid, p);
    return make_vector(interpolate(field, c), interpolate(field + voxels, c),
                       interpolate(field + 2 * voxels, c));
}

// ITK's rule: a voxel reaches half a step around its centre, the upper end excluded.
// NaN is outside. Written without short circuits: the host compiler vectorises it.
SEGREG_BODY bool lies_inside(Grid grid, Vector p) {
    const int z = (p.z >= -0.5f) & (p.z < (float)grid.depth - 0.5f);
    const int y = (p.y >= -0.5f) & (p.y < (float)grid.height - 0.5f);
    const int x = (p.x >= -0.5f) & (p.x < (float)grid.width - 0.5f);
    return (z & y & x) != 0;
}

// Index of the voxel whose cell holds the position, clamped to the volume.
SEGREG_BODY int nearest_index(Grid grid, Vector p) {
    const int z = (int)(clamp(p.z, 0.0f, (float)(grid.depth - 1)) + 0.5f);
    const int y = (int)(clamp(p.y, 0.0f, (float)(grid.height - 1)) + 0.5f);
    const int x = (int)(clamp(p.x, 0.0f, (float)(grid.width - 1)) + 0.5f);
    return (z * grid.height + y) * grid.width + x;
}

// Where the voxel (z, y, x) of the fixed grid looks in the moving grid: affine (x + u(x)).
// A null displacement is zero.
SEGREG_BODY Vector moving_position(const Affine& affine, const float* displacement, Index voxels,
                                   Index index, Vector voxel) {
    if (displacement) voxel = add(voxel, load_vector(displacement, voxels, index));
    return apply(affine, voxel);
}

}  // namespace segreg
