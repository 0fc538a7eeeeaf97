// Canvases: what a network sees of each region.
#pragma once

#include "shapes.cuh"

namespace segreg {

// One region's canvas.
struct Canvas {
    Affine affine;  // canvas index -> image voxel
    const float* displacement;  // null for none
    Grid field;
    float ratio;  // field cells to a canvas cell, along every axis
    float centre, scale;
};

SEGREG_BODY Canvas canvas_of(int k, const float* affines, const float* intensity,
                             const float* displacement, int stride, Grid cells) {
    Canvas c;
    c.affine = load_affine(affines + 12 * k);
    c.field.depth = cells.depth / stride;
    c.field.height = cells.height / stride;
    c.field.width = cells.width / stride;
    c.displacement = displacement ? displacement + 3 * voxels_of(c.field) * k : displacement;
    c.ratio = 1.0f / (float)stride;
    c.centre = intensity[2 * k];
    c.scale = intensity[2 * k + 1];
    return c;
}

// Place of a canvas position on the field's own cells over the same canvas, along one axis.
SEGREG_BODY float field_position(const Canvas& c, float position) {
    return (position + 0.5f) * c.ratio - 0.5f;
}

// c + u(c), u in cells of the field.
SEGREG_BODY Vector displaced(const Canvas& c, Vector cell) {
    const Vector q = make_vector(field_position(c, cell.z), field_position(c, cell.y),
                                 field_position(c, cell.x));
    const Vector u = interpolate_vector(c.displacement, c.field, q);
    const float width = 1.0f / c.ratio;
    return make_vector(cell.z + width * u.z, cell.y + width * u.y, cell.x + width * u.x);
}

// The image at one position, as the network sees it.
SEGREG_BODY float region_value(const float* image, Grid grid, const Canvas& canvas, Vector p) {
    const float value = interpolate(image, corners(grid, p));
    return clamp((value - canvas.centre) * canvas.scale, -1.0f, 1.0f);
}

// A number as IEEE half precision, rounded to nearest, of equals to even.
SEGREG_BODY unsigned short half_of(float value) {
    const unsigned bits = bits_of(value);
    const unsigned size = bits & 0x7fffffffu;
    // Below 2^-14 halves are multiples of 2^-24, as floats are from 0.5 on.
    const unsigned small = bits_of(float_of(size) + 0.5f) - 0x3f000000u;
    const unsigned normal = (size + 0xfffu + ((size >> 13) & 1u) - 0x38000000u) >> 13;
    const unsigned special = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const unsigned half = size < 0x38800000u ? small : size < 0x477ff000u ? normal : special;
    return (unsigned short)(half | ((bits >> 16) & 0x8000u));
}

// Sums of a b, a a and b b over two masks. Through fixed lanes, so the order never changes, into
// single precision for a piece of a mask at most.
#define SEGREG_LANES 16
#define SEGREG_PIECE 4096

SEGREG_BODY void add_products(const float* a, const float* b, int count, double* sums) {
    float ab[SEGREG_LANES], aa[SEGREG_LANES], bb[SEGREG_LANES];
    for (int lane = 0; lane < SEGREG_LANES; ++lane) ab[lane] = aa[lane] = bb[lane] = 0.0f;
    const int whole = count / SEGREG_LANES * SEGREG_LANES;
    for (int i = 0; i < whole; i += SEGREG_LANES) {
        for (int lane = 0; lane < SEGREG_LANES; ++lane) {
            const float x = a[i + lane], y = b[i + lane];
            ab[lane] += x * y;
            aa[lane] += x * x;
            bb[lane] += y * y;
        }
    }
    for (int i = whole; i < count; ++i) {
        ab[i - whole] += a[i] * b[i];
        aa[i - whole] += a[i] * a[i];
        bb[i - whole] += b[i] * b[i];
    }
    for (int lane = 0; lane < SEGREG_LANES; ++lane) {
        sums[0] += ab[lane];
        sums[1] += aa[lane];
        sums[2] += bb[lane];
    }
}

}  // namespace segreg
