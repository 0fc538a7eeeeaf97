// Sums of a radial function over its centres.
#pragma once

#include "platform.cuh"

namespace segreg {

// Adds weight * |p - centre| to three sums. The weights of near centres may be large and of
// opposite signs, so the sums are in double precision.
SEGREG_BODY void add_distance(double& z, double& y, double& x, Vector p, const float* centre,
                              const float* weight) {
    const Vector way = make_vector(p.z - centre[0], p.y - centre[1], p.x - centre[2]);
    const double distance = sqrtf(squared_length(way));
    z += weight[0] * distance;
    y += weight[1] * distance;
    x += weight[2] * distance;
}

}  // namespace segreg
