// Displacement fields: composition, Jacobian determinant, inversion.
#pragma once

#include "interpolation.cuh"

namespace segreg {

// scale * second(x) + scale * first(x + scale * second(x)). With first = second = the velocity
// and scale = 2^-steps this is the first squaring of scaling and squaring.
SEGREG_BODY Vector composed(const float* first, Grid grid, float scale, Vector second,
                            Vector voxel) {
    const Vector moved = make_vector(scale * second.z, scale * second.y, scale * second.x);
    const Vector there = interpolate_vector(first, grid, add(voxel, moved));
    return make_vector(moved.z + scale * there.z, moved.y + scale * there.y,
                       moved.x + scale * there.x);
}

// Offsets to the two neighbours of a difference and the factor in front of it: central inside,
// one-sided at the ends, zero on an axis of one voxel.
struct Difference {
    Index low, high;
    float factor;
};

SEGREG_BODY Difference difference(int position, int length, Index stride) {
    const int low = position > 0 ? 1 : 0;
    const int high = position < length - 1 ? 1 : 0;
    Difference d;
    d.low = -low * stride;
    d.high = high * stride;
    d.factor = low + high == 2 ? 0.5f : 1.0f;
    return d;
}

SEGREG_BODY float slope(const float* component, Index index, const Difference& d) {
    return (component[index + d.high] - component[index + d.low]) * d.factor;
}

SEGREG_BODY Vector slopes(const float* component, Index index, const Difference& dz,
                          const Difference& dy, const Difference& dx) {
    return make_vector(slope(component, index, dz), slope(component, index, dy),
                       slope(component, index, dx));
}

// det(I + grad u), given the slopes of each component.
SEGREG_BODY float determinant_of(Vector uz, Vector uy, Vector ux) {
    const float zz = 1.0f + uz.z, yy = 1.0f + uy.y, xx = 1.0f + ux.x;
    return zz * (yy * xx - uy.x * ux.y) - uz.y * (uy.z * xx - uy.x * ux.z) +
           uz.x * (uy.z * ux.y - yy * ux.z);
}

// det(I + grad u) at one voxel.
SEGREG_BODY float determinant(const float* field, Index voxels, Index index, const Difference& dz,
                              const Difference& dy, const Difference& dx) {
    return determinant_of(slopes(field, index, dz, dy, dx),
                          slopes(field + voxels, index, dz, dy, dx),
                          slopes(field + 2 * voxels, index, dz, dy, dx));
}

// Where a cell lies on an axis of another grid over the same box; `ratio` is cells of that grid to
// one of its own.
SEGREG_BODY float cell_position(float cell, float ratio) {
    return (cell + 0.5f) * ratio - 0.5f;
}

// Vector of a field on a grid over the same box, in cells of that grid; `ratio` is field cells to
// a cell of it.
SEGREG_BODY Vector resampled(const float* field, Grid grid, Vector ratio, Vector cell) {
    const Vector there = make_vector(cell_position(cell.z, ratio.z),
                                     cell_position(cell.y, ratio.y),
                                     cell_position(cell.x, ratio.x));
    const Vector u = interpolate_vector(field, grid, there);
    return make_vector(u.z / ratio.z, u.y / ratio.y, u.x / ratio.x);
}

SEGREG_BODY Vector cell_ratio(Grid old, Grid next) {
    return make_vector((float)old.depth / (float)next.depth,
                       (float)old.height / (float)next.height,
                       (float)old.width / (float)next.width);
}

// One voxel's search for the point that the field carries to `target`.
struct Search {
    Vector point;     // best point so far
    Vector residual;  // target - point - u(point)
    float error;      // squared length of the residual
    float step;       // share of the full step, halved when a step did not help
};

SEGREG_BODY Vector residual_at(const float* field, Grid grid, Vector target, Vector point) {
    return subtract(subtract(target, point), interpolate_vector(field, grid, point));
}

SEGREG_BODY Search begin_search(const float* field, Grid grid, const Affine& guess,
                                Vector target) {
    Search s;
    s.point = apply(guess, target);
    s.residual = residual_at(field, grid, target, s.point);
    s.error = squared_length(s.residual);
    s.step = 1.0f;
    return s;
}

// A search whose error is `enough` rests.
SEGREG_BODY Search improve(const float* field, Grid grid, const Affine& guess, Vector target,
                           float enough, Search s) {
    const Vector way = apply_linear(guess, s.residual);
    const Vector point = make_vector(s.point.z + s.step * way.z, s.point.y + s.step * way.y,
                                     s.point.x + s.step * way.x);
    const Vector residual = residual_at(field, grid, target, point);
    const float error = squared_length(residual);
    const bool better = (error < s.error) & (s.error > enough);
    const float longer = 2.0f * s.step;
    Search next;
    next.point.z = better ? point.z : s.point.z;
    next.point.y = better ? point.y : s.point.y;
    next.point.x = better ? point.x : s.point.x;
    next.residual.z = better ? residual.z : s.residual.z;
    next.residual.y = better ? residual.y : s.residual.y;
    next.residual.x = better ? residual.x : s.residual.x;
    next.error = better ? error : s.error;
    next.step = better ? (longer < 1.0f ? longer : 1.0f) : 0.5f * s.step;
    return next;
}

}  // namespace segreg
