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
    int64 low, high;
    float factor;
};

SEGREG_BODY Difference difference(int position, int length, int64 stride) {
    const int low = position > 0 ? 1 : 0;
    const int high = position < length - 1 ? 1 : 0;
    Difference d;
    d.low = -low * stride;
    d.high = high * stride;
    d.factor = low + high == 2 ? 0.5f : 1.0f;
    return d;
}

SEGREG_BODY float slope(const float* component, int64 index, const Difference& d) {
    return (component[index + d.high] - component[index + d.low]) * d.factor;
}

// det(I + grad u) at one voxel.
SEGREG_BODY float determinant(const float* field, int64 voxels, int64 index, const Difference& dz,
                              const Difference& dy, const Difference& dx) {
    const float* uz = field;
    const float* uy = field + voxels;
    const float* ux = field + 2 * voxels;
    const float zz = 1.0f + slope(uz, index, dz);
    const float zy = slope(uz, index, dy);
    const float zx = slope(uz, index, dx);
    const float yz = slope(uy, index, dz);
    const float yy = 1.0f + slope(uy, index, dy);
    const float yx = slope(uy, index, dx);
    const float xz = slope(ux, index, dz);
    const float xy = slope(ux, index, dy);
    const float xx = 1.0f + slope(ux, index, dx);
    return zz * (yy * xx - yx * xy) - zy * (yz * xx - yx * xz) + zx * (yz * xy - yy * xz);
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
