// Regions on the GPU: one thread a table of sums; canvases by rows.
#include "regions.cuh"
#include "threads.cuh"

using namespace segreg;

extern "C" __global__ void region_stats(int64 size, const int* regions, const float* image,
                                        int depth, int height, int width, int count,
                                        int64* moments, double* intensities) {
    const int64 table = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (table >= size) return;
    sum_rows(regions, image, {depth, height, width}, table, size, count, moments, intensities);
}

extern "C" __global__ void gather_regions(int64 size, const int* regions, const float* image,
                                          int depth, int height, int width, const int* indices,
                                          const float* affines, const float* intensity,
                                          const float* displacement, int field_side,
                                          const int* supersample, int side, int channels,
                                          int masked_channel, int mask_channel, int image_channel,
                                          float* batch) {
    const Grid grid = {depth, height, width};
    const Grid cells = {side, side, side};
    const Index voxels = voxels_of(cells);
    for_each_voxel(size, cells, [&](const Run& run, int i) {
        const Canvas canvas = canvas_of((int)run.batch, indices, affines, intensity, displacement,
                                        field_side, supersample, side);
        float value = 0.0f, mask = 0.0f, masked = 0.0f;
        for (int j = 0; j < canvas.samples; ++j) {
            Vector cell = add(voxel_of(run, i), subsample(canvas, j));
            if (displacement) cell = displaced(canvas, cell);
            const Vector p = apply(canvas.affine, cell);
            const float v = region_value(image, grid, canvas, p);
            const float m = region_mask(regions, grid, canvas.region, p);
            value += v;
            mask += m;
            masked += v * m;
        }
        const float weight = 1.0f / (float)canvas.samples;
        float* out = batch + run.batch * channels * voxels + index_of(run, i);
        if (image_channel >= 0) out[image_channel * voxels] = value * weight;
        if (mask_channel >= 0) out[mask_channel * voxels] = mask * weight;
        if (masked_channel >= 0) out[masked_channel * voxels] = masked * weight;
    });
}
