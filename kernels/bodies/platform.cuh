// What NVRTC, nvcc and the host compiler need to read the same bodies. No standard headers:
// NVRTC has none.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SEGREG_BODY __device__ __forceinline__
#elif defined(_MSC_VER)
#define SEGREG_BODY static __forceinline
#else
// always_inline, so that a body takes on the instruction set of the clone that calls it.
#define SEGREG_BODY static inline __attribute__((always_inline))
#endif

// The next loop of few turns becomes straight code, its arrays registers.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SEGREG_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__clang__)
#define SEGREG_UNROLL _Pragma("GCC unroll 8")
#else
#define SEGREG_UNROLL
#endif

#if !defined(__CUDACC_RTC__)
#include <math.h>
#include <string.h>
#endif

// The next loop is not unrolled on the GPU, where that would cost registers.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SEGREG_ROLLED _Pragma("unroll 1")
#else
#define SEGREG_ROLLED
#endif

namespace segreg {

typedef long long int64;

// Counts the elements of whole arrays. On the GPU 32 bits wherever they suffice: the launch
// chooses between two builds.
#if defined(SEGREG_NARROW)
typedef int Index;
#else
typedef int64 Index;
#endif

struct Vector {
    float z, y, x;
};

struct Grid {
    int depth, height, width;
};

// Row-major (3, 4): index vector in, index vector out.
struct Affine {
    float m[12];
};

SEGREG_BODY Index voxels_of(Grid grid) {
    return (Index)grid.depth * grid.height * grid.width;
}

// A work item's place in a batch of grids; `index` counts inside its own grid.
struct Place {
    Index batch;
    int z, y, x, index;
};

SEGREG_BODY Place place_of(Index item, Grid grid) {
    const Index voxels = voxels_of(grid);
    Place p;
    p.batch = item / voxels;
    p.index = (int)(item - p.batch * voxels);
    const int row = p.index / grid.width;
    p.x = p.index - row * grid.width;
    p.z = row / grid.height;
    p.y = row - p.z * grid.height;
    return p;
}

SEGREG_BODY int least(int a, int b) {
    return a < b ? a : b;
}

SEGREG_BODY int most(int a, int b) {
    return a > b ? a : b;
}

// Place of the lowest bit that is set; there is one.
SEGREG_BODY int lowest_bit(unsigned bits) {
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
    return __ffs((int)bits) - 1;
#elif defined(__GNUC__)
    return __builtin_ctz(bits);
#else
    int place = 0;
    while (!((bits >> place) & 1u)) ++place;
    return place;
#endif
}

// Comparisons are written so that NaN becomes `low`: an index made from it stays in the volume.
SEGREG_BODY float clamp(float value, float low, float high) {
    value = value > low ? value : low;
    return value < high ? value : high;
}

// What stands at `index` of an axis that ends: its last sample held, or the axis mirrored about
// that sample (period 2 length - 2).
SEGREG_BODY int border_index(int index, int length, int mirror) {
    if (index >= 0 && index < length) return index;
    if (!mirror || length == 1) return index < 0 ? 0 : length - 1;
    const int period = 2 * length - 2;
    index = (index < 0 ? -index : index) % period;
    return index < length ? index : period - index;
}

SEGREG_BODY unsigned bits_of(float value) {
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
    return __float_as_uint(value);
#else
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

SEGREG_BODY float float_of(unsigned bits) {
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
    return __uint_as_float(bits);
#else
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

SEGREG_BODY Affine load_affine(const float* values) {
    Affine affine;
    for (int i = 0; i < 12; ++i) affine.m[i] = values[i];
    return affine;
}

SEGREG_BODY Vector apply(const Affine& a, Vector p) {
    Vector q;
    q.z = a.m[0] * p.z + a.m[1] * p.y + a.m[2] * p.x + a.m[3];
    q.y = a.m[4] * p.z + a.m[5] * p.y + a.m[6] * p.x + a.m[7];
    q.x = a.m[8] * p.z + a.m[9] * p.y + a.m[10] * p.x + a.m[11];
    return q;
}

SEGREG_BODY Vector apply_linear(const Affine& a, Vector p) {
    Vector q;
    q.z = a.m[0] * p.z + a.m[1] * p.y + a.m[2] * p.x;
    q.y = a.m[4] * p.z + a.m[5] * p.y + a.m[6] * p.x;
    q.x = a.m[8] * p.z + a.m[9] * p.y + a.m[10] * p.x;
    return q;
}

SEGREG_BODY Vector make_vector(float z, float y, float x) {
    Vector v;
    v.z = z;
    v.y = y;
    v.x = x;
    return v;
}

SEGREG_BODY Vector add(Vector a, Vector b) {
    return make_vector(a.z + b.z, a.y + b.y, a.x + b.x);
}

SEGREG_BODY Vector subtract(Vector a, Vector b) {
    return make_vector(a.z - b.z, a.y - b.y, a.x - b.x);
}

SEGREG_BODY Vector scaled(float factor, Vector v) {
    return make_vector(factor * v.z, factor * v.y, factor * v.x);
}

SEGREG_BODY float squared_length(Vector v) {
    return v.z * v.z + v.y * v.y + v.x * v.x;
}

SEGREG_BODY Vector voxel_of(const Place& p) {
    return make_vector((float)p.z, (float)p.y, (float)p.x);
}

// Components of a field lie `voxels` apart.
SEGREG_BODY Vector load_vector(const float* field, Index voxels, Index index) {
    return make_vector(field[index], field[voxels + index], field[2 * voxels + index]);
}

SEGREG_BODY void store_vector(float* field, Index voxels, Index index, Vector v) {
    field[index] = v.z;
    field[voxels + index] = v.y;
    field[2 * voxels + index] = v.x;
}

}  // namespace segreg
