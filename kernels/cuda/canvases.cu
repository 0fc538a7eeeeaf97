// Canvases on the GPU: one thread a cell of a shape or of a canvas, or a piece
// of a sum.
#include "canvases.cuh"
#include "threads.cuh"

using namespace segreg;

SEGREG_BODY void store(float value, Index place, float* batch,
                                      unsigned short* halves) {
    if (halves) {
        halves[place] = half_of(value);
    } else {
        batch[place] = value;
    }
}

extern "C" __global__ void shape_regions(int64 size, const int* regions, int depth, int height,
                                         int width, const int* indices, const int* boxes,
                                         const int64* begins, int count, unsigned char* bytes) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    int k = 0;
    for (int end = count; end - k > 1;) {  // the last region that begins at or before the byte
        const int middle = (k + end) / 2;
        if (begins[middle] <= item) {
            k = middle;
        } else {
            end = middle;
        }
    }
    const Grid grid = {depth, height, width};
    const Shape shape = shape_of(boxes + 6 * k, grid, begins[k]);
    const Grid cells = {shape.z.cells, shape.y.cells, shape.x.cells};
    if (item - begins[k] >= voxels_of(cells)) return;  // between two shapes
    const Place p = place_of(item - begins[k], cells);
    bytes[item] = shape_byte(regions, grid, shape, indices[k], p.z, p.y, p.x);
}

extern "C" __global__ void gather_regions(
    int64 size, const float* image, int depth, int height, int width, const unsigned char* shapes,
    const int64* begins, const int* boxes, const float* affines, const float* intensity,
    const float* displacement, int stride, int canvas_depth, int canvas_height, int canvas_width,
    int channels, int masked_channel, int mask_channel, int image_channel, float* batch,
    unsigned short* halves) {
    const Grid grid = {depth, height, width};
    const Grid cells = {canvas_depth, canvas_height, canvas_width};
    const Index voxels = voxels_of(cells);
    for_each_voxel(size, cells, [&](const Run& run, int i) {
        const int k = (int)run.batch;
        const Canvas canvas = canvas_of(k, affines, intensity, displacement, stride, cells);
        const Shape shape = shape_of(boxes + 6 * k, grid, begins[k]);
        const unsigned* words = (const unsigned*)(shapes + shape.begin);
        Vector cell = voxel_of(run, i);
        if (displacement) cell = displaced(canvas, cell);
        const Vector p = apply(canvas.affine, cell);
        const float mask = shape_mask(words, shape, p);
        // Outside the region only the plain image has something to show.
        const bool seen = image_channel >= 0 || mask > 0.0f;
        const float value = seen ? region_value(image, grid, canvas, p) : 0.0f;
        const Index first = run.batch * channels * voxels + index_of(run, i);
        if (image_channel >= 0) {
            store(value, first + image_channel * voxels, batch, halves);
        }
        if (mask_channel >= 0) store(mask, first + mask_channel * voxels, batch, halves);
        if (masked_channel >= 0) {
            store(value * mask, first + masked_channel * voxels, batch, halves);
        }
    });
}

extern "C" __global__ void mask_products(int64 size, const float* batch, int channels, int voxels,
                                         int first, int second, int pieces, double* sums) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const float* canvas = batch + item / pieces * channels * voxels;
    const int begin = (int)(item % pieces) * SEGREG_PIECE;
    add_products(canvas + (int64)first * voxels + begin, canvas + (int64)second * voxels + begin,
                 least(SEGREG_PIECE, voxels - begin), sums + 3 * item);
}
