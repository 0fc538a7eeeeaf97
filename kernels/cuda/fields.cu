// Displacement fields on the GPU.
#include "fields.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void compose(int64 size, const float* first, const float* second, int depth,
                                   int height, int width, float scale, float* composition) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    for_each_run(size, grid, [&](const Run& run) {
        const Index field = 3 * voxels * run.batch;
        Vector u[RUN];
#pragma unroll
        for (int i = 0; i < RUN; ++i) {
            if (holds(run, i)) u[i] = load_vector(second + field, voxels, index_of(run, i));
        }
#pragma unroll
        for (int i = 0; i < RUN; ++i) {
            if (!holds(run, i)) break;
            store_vector(composition + field, voxels, index_of(run, i),
                         composed(first + field, grid, scale, u[i], voxel_of(run, i)));
        }
    });
}

extern "C" __global__ void jacobian_determinant(int64 size, const float* displacement, int depth,
                                                int height, int width, float* determinants) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    for_each_voxel(size, grid, [&](const Run& run, int i) {
        const Index index = index_of(run, i);
        determinants[voxels * run.batch + index] =
            determinant(displacement + 3 * voxels * run.batch, voxels, index,
                        difference(run.z, depth, (Index)height * width),
                        difference(run.y, height, width),
                        difference(run.x + i * run.step, width, 1));
    });
}

// Slopes of one component at four neighbouring voxels.
struct QuadSlopes {
    Vector v[4];
};

SEGREG_BODY QuadSlopes quad_slopes(const float* component, const Run& run,
                                          const Difference& dz, const Difference& dy) {
    const float* here = component + run.row + run.x;
    const Quad low_z = load_quad(here + dz.low), high_z = load_quad(here + dz.high);
    const Quad low_y = load_quad(here + dy.low), high_y = load_quad(here + dy.high);
    const Quad middle = load_quad(here);
    const bool first = run.x == 0, last = run.x + 4 == run.width;
    const float left = first ? middle.v[0] : here[-1], right = last ? middle.v[3] : here[4];
    QuadSlopes s;
    for (int i = 0; i < 4; ++i) {
        s.v[i].z = (high_z.v[i] - low_z.v[i]) * dz.factor;
        s.v[i].y = (high_y.v[i] - low_y.v[i]) * dy.factor;
        const float low = i ? middle.v[i > 0 ? i - 1 : 0] : left;
        const float high = i < 3 ? middle.v[i < 3 ? i + 1 : 3] : right;
        const bool end = (first && i == 0) || (last && i == 3);
        s.v[i].x = (high - low) * (end ? 1.0f : 0.5f);
    }
    return s;
}

extern "C" __global__ SEGREG_BOUNDED void jacobian_determinant_quads(
    int64 size, const float* displacement, int depth, int height, int width,
    float* determinants) {
    const Grid grid = {depth, height, width};
    const Index voxels = voxels_of(grid);
    for_each_quad(size, grid, [&](const Run& run) {
        const float* field = displacement + 3 * voxels * run.batch;
        const Difference dz = difference(run.z, depth, (Index)height * width);
        const Difference dy = difference(run.y, height, width);
        const QuadSlopes uz = quad_slopes(field, run, dz, dy);
        const QuadSlopes uy = quad_slopes(field + voxels, run, dz, dy);
        const QuadSlopes ux = quad_slopes(field + 2 * voxels, run, dz, dy);
        Quad result;
        for (int i = 0; i < 4; ++i) result.v[i] = determinant_of(uz.v[i], uy.v[i], ux.v[i]);
        store_quad(determinants + voxels * run.batch + run.row + run.x, result);
    });
}

extern "C" __global__ void invert(int64 size, const float* displacement, int depth, int height,
                                  int width, Affine affine, Affine guess, int target_depth,
                                  int target_height, int target_width, int steps, float tolerance,
                                  float* inverse, float* residual) {
    const Grid grid = {depth, height, width};
    const Grid target_grid = {target_depth, target_height, target_width};
    const float enough = tolerance * tolerance;
    for_each_voxel(size, target_grid, [&](const Run& run, int i) {
        const Vector target = apply(affine, voxel_of(run, i));
        Search search = begin_search(displacement, grid, guess, target);
        for (int j = 0; j < steps && search.error > enough; ++j) {
            search = improve(displacement, grid, guess, target, enough, search);
        }
        const Index index = index_of(run, i);
        store_vector(inverse, (Index)size, index, subtract(search.point, target));
        residual[index] = sqrtf(search.error);
    });
}

extern "C" __global__ void resample_field(int64 size, const float* field, int depth, int height,
                                          int width, int new_depth, int new_height, int new_width,
                                          float* resized) {
    const Grid grid = {depth, height, width};
    const Grid cells = {new_depth, new_height, new_width};
    const Index voxels = voxels_of(cells);
    const Vector ratio = cell_ratio(grid, cells);
    for_each_voxel(size, cells, [&](const Run& run, int i) {
        const float* source = field + 3 * voxels_of(grid) * run.batch;
        store_vector(resized + 3 * voxels * run.batch, voxels, index_of(run, i),
                     resampled(source, grid, ratio, voxel_of(run, i)));
    });
}
