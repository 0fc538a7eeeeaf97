#include "radial.cuh"

#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {
namespace {

// Points side by side: enough for the vectors to be busy while one waits for its root.
const int SIDE_BY_SIDE = 64;

SEGREG_CLONES
void sum_points(const float* points, int64 stride, int count, const float* centres,
                const float* weights, int centre_count, float* SEGREG_RESTRICT sums) {
    double z[SIDE_BY_SIDE] = {}, y[SIDE_BY_SIDE] = {}, x[SIDE_BY_SIDE] = {};
    for (int c = 0; c < centre_count; ++c) {
        SEGREG_SIMD
        for (int i = 0; i < count; ++i) {
            add_distance(z[i], y[i], x[i],
                         make_vector(points[i], points[stride + i], points[2 * stride + i]),
                         centres + 3 * c, weights + 3 * c);
        }
    }
    for (int i = 0; i < count; ++i) {
        sums[i] = (float)z[i];
        sums[stride + i] = (float)y[i];
        sums[2 * stride + i] = (float)x[i];
    }
}

}  // namespace

void sum_distances(int64 size, const float* points, const float* centres, const float* weights,
                   int count, float* sums) {
    parallel_ranges(size, SIDE_BY_SIDE, [&](int64 begin, int64 end) {
        sum_points(points + begin, size, (int)(end - begin), centres, weights, count, sums + begin);
    });
}

}  // namespace segreg
