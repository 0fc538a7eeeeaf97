// The voxels of a region in its box, eight neighbours to a byte, so that one look at a position
// gives all it takes for a trilinear sample.
#pragma once

#include "interpolation.cuh"

namespace segreg {

// Region 0 stands for all regions as one.
SEGREG_BODY bool is_member(int value, int region) {
    return region ? value == region : value > 0;
}

// One axis of a shape: the cells between the voxels of the box and the one before it. An axis of
// one voxel has no outside and a single cell; there `thick` is 0, else 1.
struct Axis {
    int origin, cells;
    float thick;
};

// Bit 4 z + 2 y + x of byte (z, y, x) says whether the voxel at origin + (z, y, x) + those bits is
// in the region. Bytes are read four at a time: processors gather words, not bytes.
struct Shape {
    Axis z, y, x;
    int64 begin;  // of its bytes; a multiple of 4
};

SEGREG_BODY Axis axis_of(int low, int high, int length) {
    Axis axis;
    axis.origin = length > 1 ? low - 1 : 0;
    axis.cells = length > 1 ? most(high - low, 0) + 1 : 1;
    axis.thick = length > 1 ? 1.0f : 0.0f;
    return axis;
}

// `box` is the first voxel and one past the last.
SEGREG_BODY Shape shape_of(const int* box, Grid grid, int64 begin) {
    Shape shape;
    shape.z = axis_of(box[0], box[3], grid.depth);
    shape.y = axis_of(box[1], box[4], grid.height);
    shape.x = axis_of(box[2], box[5], grid.width);
    shape.begin = begin;
    return shape;
}

SEGREG_BODY bool member_at(const int* regions, Grid grid, int region, int z, int y, int x) {
    if ((unsigned)z >= (unsigned)grid.depth || (unsigned)y >= (unsigned)grid.height ||
        (unsigned)x >= (unsigned)grid.width) {
        return false;
    }
    return is_member(regions[((int64)z * grid.height + y) * grid.width + x], region);
}

// The byte of one cell, from the region map.
SEGREG_BODY unsigned char shape_byte(const int* regions, Grid grid, const Shape& shape, int region,
                                     int z, int y, int x) {
    int byte = 0;
    for (int i = 0; i < 8; ++i) {
        byte |= member_at(regions, grid, region, shape.z.origin + z + i / 4,
                          shape.y.origin + y + i / 2 % 2, shape.x.origin + x + i % 2)
                << i;
    }
    return (unsigned char)byte;
}

// The cell of a position on one axis, and the trilinear weights of both its voxels, which fall to
// zero outside the cells.
struct Hats {
    int cell;
    float low, high;
};

SEGREG_BODY float hat(float distance) {
    const float h = 1.0f - fabsf(distance);
    return h > 0.0f ? h : 0.0f;
}

SEGREG_BODY Hats hats(float position, Axis axis) {
    const float last = (float)(axis.origin + axis.cells - 1);
    const float inside = clamp(position, (float)axis.origin, last);
    const int low = (int)(inside + 1.0f) - 1;  // inside >= -1: truncation is floor
    Hats h;
    h.cell = low - axis.origin;
    // Factors, not choices: choices would keep the host compiler from vectorising.
    const float low_hat = hat(position - (float)low);
    h.low = low_hat + (1.0f - axis.thick) * (1.0f - low_hat);
    h.high = axis.thick * hat(position - (float)(low + 1));
    return h;
}

SEGREG_BODY float pair_of(unsigned bits, int first, Hats x) {
    return (float)(int)(bits >> first & 1) * x.low + (float)(int)(bits >> (first + 1) & 1) * x.high;
}

// The share of the region at one position: trilinear, zero outside the volume. `words` are those
// of the shape.
SEGREG_BODY float shape_mask(const unsigned* words, const Shape& shape, Vector p) {
    const Hats z = hats(p.z, shape.z);
    const Hats y = hats(p.y, shape.y);
    const Hats x = hats(p.x, shape.x);
    const int place = (z.cell * shape.y.cells + y.cell) * shape.x.cells + x.cell;
    const unsigned bits = words[place >> 2] >> (8 * (place & 3));
    return z.low * (y.low * pair_of(bits, 0, x) + y.high * pair_of(bits, 2, x)) +
           z.high * (y.low * pair_of(bits, 4, x) + y.high * pair_of(bits, 6, x));
}

}  // namespace segreg
