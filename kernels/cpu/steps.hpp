// Steps that solve normal equations, some voxels at a time.
#pragma once

#include "launch.hpp"
#include "matching.cuh"

namespace segreg {
namespace {

// Voxels [begin, end): channels of their equations lie `stride` apart, components of the
// displacement `voxels`.
SEGREG_CLONES
void step_range(const float* SEGREG_RESTRICT normals, int64 stride, int64 begin, int64 end,
                float damping, float longest, Vector unit, int64 voxels,
                float* SEGREG_RESTRICT displacement) {
    SEGREG_SIMD
    for (int64 i = begin; i < end; ++i) {
        const Vector step = solve_step(load_normal(normals, stride, i), damping, longest);
        move_by(displacement, voxels, i, step, unit);
    }
}

}  // namespace
}  // namespace segreg
