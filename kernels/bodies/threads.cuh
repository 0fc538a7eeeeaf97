// Which voxels a CUDA thread takes. Only cuda/*.cu include this.
#pragma once

#include "platform.cuh"

namespace segreg {

// The lanes of a warp take neighbouring voxels, and each thread RUN of them a warp's width apart:
// their loads are in flight together. Were they neighbours, each gather of the warp would touch
// RUN times as many cache lines. With 64-bit indices that would take too many registers.
#if defined(SEGREG_NARROW)
constexpr int RUN = 4;
#define SEGREG_BOUNDED
#else
constexpr int RUN = 1;
#define SEGREG_BOUNDED __launch_bounds__(128, 4)
#endif

// Some voxels of one row: x, x + step, ... below `width`. `row` is the flat index of the row's
// first voxel inside its grid.
struct Run {
    Index batch, row;
    int z, y, x, step, width;
};

SEGREG_BODY bool holds(const Run& run, int i) {
    return run.x + i * run.step < run.width;
}

SEGREG_BODY Index index_of(const Run& run, int i) {
    return run.row + run.x + i * run.step;
}

SEGREG_BODY Vector voxel_of(const Run& run, int i) {
    return make_vector((float)run.z, (float)run.y, (float)(run.x + i * run.step));
}

// Calls body(batch, z, y, row) for this thread's rows of a batch of `size` voxels. Blocks count
// rows in y and slices in z, so that nothing is divided; any launch covers everything.
template <typename Body>
SEGREG_BODY void for_each_row(int64 size, Grid grid, const Body& body) {
    const Index plane = (Index)grid.height * grid.width;
    for (int64 slice = blockIdx.z; slice * plane < size; slice += gridDim.z) {
        const int position = (int)slice;
        const int batch = position < grid.depth ? 0 : position / grid.depth;
        const int z = position - batch * grid.depth;
        const int step = (int)(gridDim.y * blockDim.y);
        for (int y = (int)(blockIdx.y * blockDim.y + threadIdx.y); y < grid.height; y += step) {
            body(batch, z, y, ((Index)z * grid.height + y) * grid.width);
        }
    }
}

// Calls body(run) for this thread's runs.
template <typename Body>
SEGREG_BODY void for_each_run(int64 size, Grid grid, const Body& body) {
    for_each_row(size, grid, [&](int batch, int z, int y, Index row) {
        const int lane = (int)threadIdx.x, step = (int)blockDim.x;
        const int jump = (int)gridDim.x * RUN * step;
        for (int x = (int)blockIdx.x * RUN * step + lane; x < grid.width; x += jump) {
            body(Run{batch, row, z, y, x, step, grid.width});
        }
    });
}

// Calls body(run, i) for each voxel of this thread's runs.
template <typename Body>
SEGREG_BODY void for_each_voxel(int64 size, Grid grid, const Body& body) {
    for_each_run(size, grid, [&](const Run& run) {
#pragma unroll 1
        for (int i = 0; i < RUN; ++i) {
            if (holds(run, i)) body(run, i);
        }
    });
}

// Four neighbouring voxels of a row, loaded and stored 16 bytes at a time: for kernels that
// gather nothing, whose rows are multiples of four long and begin at multiples of 16 bytes.
struct alignas(16) Quad {
    float v[4];
};

SEGREG_BODY Quad load_quad(const float* values) {
    return *(const Quad*)values;
}

SEGREG_BODY void store_quad(float* values, const Quad& quad) {
    *(Quad*)values = quad;
}

// Calls body(run) for this thread's quads: x is the first of four voxels.
template <typename Body>
SEGREG_BODY void for_each_quad(int64 size, Grid grid, const Body& body) {
    for_each_row(size, grid, [&](int batch, int z, int y, Index row) {
        const int jump = (int)(gridDim.x * blockDim.x) * 4;
        for (int x = (int)(blockIdx.x * blockDim.x + threadIdx.x) * 4; x < grid.width; x += jump) {
            body(Run{batch, row, z, y, x, 1, grid.width});
        }
    });
}

// Calls body(row) for the rows of this thread's warp, one warp a row at a time.
template <typename Body>
SEGREG_BODY void for_each_row_of_warp(int64 rows, const Body& body) {
    const int64 thread = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    const int64 warps = (int64)gridDim.x * blockDim.x / 32;
    for (int64 row = thread / 32; row < rows; row += warps) body(row);
}

}  // namespace segreg
