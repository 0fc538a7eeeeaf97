// Displacement fields on the GPU: one thread a voxel.
#include "fields.cuh"

using namespace segreg;

extern "C" __global__ void compose(int64 size, const float* first, const float* second, int depth,
                                   int height, int width, float scale, float* composition) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const Place p = place_of(item, grid);
    const int64 field = 3 * voxels * p.batch;
    const Vector u = load_vector(second + field, voxels, p.index);
    store_vector(composition + field, voxels, p.index,
                 composed(first + field, grid, scale, u, voxel_of(p)));
}

extern "C" __global__ void jacobian_determinant(int64 size, const float* displacement, int depth,
                                                int height, int width, float* determinants) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const Place p = place_of(item, grid);
    determinants[item] = determinant(displacement + 3 * voxels * p.batch, voxels, p.index,
                                     difference(p.z, depth, (int64)height * width),
                                     difference(p.y, height, width), difference(p.x, width, 1));
}

extern "C" __global__ void invert(int64 size, const float* displacement, int depth, int height,
                                  int width, const float* affine, const float* guess,
                                  int target_depth, int target_height, int target_width, int steps,
                                  float tolerance, float* inverse, float* residual) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const Grid grid = {depth, height, width};
    const Place p = place_of(item, {target_depth, target_height, target_width});
    const Affine begin = load_affine(guess);
    const Vector target = apply(load_affine(affine), voxel_of(p));
    Search search = begin_search(displacement, grid, begin, target);
    const float enough = tolerance * tolerance;
    for (int i = 0; i < steps && search.error > enough; ++i) {
        search = improve(displacement, grid, begin, target, enough, search);
    }
    store_vector(inverse, size, item, subtract(search.point, target));
    residual[item] = sqrtf(search.error);
}
