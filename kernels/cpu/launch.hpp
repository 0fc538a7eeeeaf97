// How the CPU runs a kernel: ranges of rows over threads, one clone of the range function per
// instruction set.
#pragma once

#include <algorithm>
#include <vector>

#include "platform.cuh"

// The loader picks the clone that fits the processor. An OpenMP region does not inherit the
// clone of the function around it, so the parallel loop stays outside (parallel_ranges) and
// calls the cloned range function once per range.
#if defined(__x86_64__) && defined(__linux__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(SEGREG_ONE_TARGET)
#define SEGREG_CLONES \
    __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SEGREG_CLONES
#endif

// The iterations of the next loop are independent. Not "omp simd": that gives every struct in the
// loop an array in memory, and GCC then vectorises none of it.
#if defined(_MSC_VER)
#define SEGREG_SIMD __pragma(loop(ivdep))
#elif defined(__clang__)
#define SEGREG_SIMD _Pragma("clang loop vectorize(assume_safety)")
#else
#define SEGREG_SIMD _Pragma("GCC ivdep")
#endif

#if defined(_MSC_VER)
#define SEGREG_RESTRICT __restrict
#else
#define SEGREG_RESTRICT __restrict__
#endif

namespace segreg {

int threads();

// Calls range(begin, end) for consecutive pieces of 0..items. Where the pieces are cut does not
// depend on the number of threads.
template <typename Range>
void parallel_ranges(int64 items, int64 grain, const Range& range) {
    const int64 pieces = (items + grain - 1) / grain;
#if defined(_OPENMP)
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads()) if (pieces > 1)
#endif
    for (int64 piece = 0; piece < pieces; ++piece) {
        range(piece * grain, std::min(items, (piece + 1) * grain));
    }
}

// Rows to a piece: about 8192 voxels, long enough to hide the scheduling.
inline int64 rows_for(int width) {
    return std::max<int64>(1, 8192 / std::max(width, 1));
}

// Place of row number `row` of a batch of grids.
struct Row {
    int64 batch;
    int z, y;
    int64 begin;  // flat index of its first voxel inside its grid
};

SEGREG_BODY Row row_of(int64 row, Grid grid) {
    const int64 rows = (int64)grid.depth * grid.height;
    const int64 inside = row % rows;
    Row r;
    r.batch = row / rows;
    r.z = (int)(inside / grid.height);
    r.y = (int)(inside % grid.height);
    r.begin = inside * grid.width;
    return r;
}

}  // namespace segreg
