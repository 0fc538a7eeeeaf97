// Sums of distances on the GPU: one thread a point.
#include "radial.cuh"

using namespace segreg;

extern "C" __global__ void sum_distances(int64 size, const float* points, const float* centres,
                                         const float* weights, int count, float* sums) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Vector p = load_vector(points, size, item);
    double z = 0.0, y = 0.0, x = 0.0;
    for (int c = 0; c < count; ++c) add_distance(z, y, x, p, centres + 3 * c, weights + 3 * c);
    store_vector(sums, size, item, make_vector((float)z, (float)y, (float)x));
}
