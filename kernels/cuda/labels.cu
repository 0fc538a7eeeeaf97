// Label numbers on the GPU: one thread a voxel.
#include "labels.cuh"

using namespace segreg;

// A label of 1, 2 or 4 bytes.
SEGREG_BODY int label_number(const unsigned char* labels, int bytes, int64 item) {
    if (bytes == 1) return labels[item];
    return bytes == 2 ? ((const short*)labels)[item] : ((const int*)labels)[item];
}

extern "C" __global__ void relabel(int64 size, const unsigned char* labels, int bytes,
                                   const int* table, int table_size, int* regions) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    regions[item] = relabelled(label_number(labels, bytes, item), table, table_size);
}

extern "C" __global__ void mark_labels(int64 size, const unsigned char* labels, int bytes,
                                       int limit, int tables, unsigned char* seen) {
    const int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= size) return;
    const int label = label_number(labels, bytes, item);
    // All who write here write the same.
    if (label >= 0 && label < limit) seen[item % tables * limit + label] = 1;
}
