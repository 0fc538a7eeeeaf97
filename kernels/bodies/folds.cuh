// Finding folds of a displacement field, and the least change that opens one.
#pragma once

#include "fields.cuh"

namespace segreg {

// A determinant depends on the cross of a voxel and its six face neighbours. Voxels with equal
// (x + 2 y + 3 z) mod 7 have disjoint crosses, and seven phases reach every voxel (the crosses
// tile the grid: Golomb and Welch, SIAM J. Appl. Math. 18, 1970).
#define SEGREG_PHASES 7

SEGREG_BODY int first_of_phase(int z, int y, int phase) {
    const int taken = (2 * (y % SEGREG_PHASES) + 3 * (z % SEGREG_PHASES)) % SEGREG_PHASES;
    return (phase + SEGREG_PHASES - taken) % SEGREG_PHASES;
}

// Marks of voxels (B, D, H, W) with a flag per row; a row without a flag holds no mark, whatever
// its bytes say, and is never cleared.
struct Marks {
    const unsigned char* voxels;
    const unsigned char* rows;
};

// Whether a row has a flag within two steps along z and y.
SEGREG_BODY bool rows_nearby(Marks marks, Grid grid, Index batch, int z, int y) {
    const unsigned char* rows = marks.rows + batch * grid.depth * grid.height;
    for (int dz = -2; dz <= 2; ++dz) {
        if (z + dz < 0 || z + dz >= grid.depth) continue;
        const int rest = 2 - most(dz, -dz);
        for (int dy = -rest; dy <= rest; ++dy) {
            if (y + dy < 0 || y + dy >= grid.height) continue;
            if (rows[(z + dz) * grid.height + y + dy]) return true;
        }
    }
    return false;
}

// Whether a mark lies within two steps along the axes: only there can work on the marked voxels
// have changed the determinant.
SEGREG_BODY bool marked_nearby(Marks marks, Grid grid, const Place& p) {
    const Index rows = p.batch * grid.depth * grid.height;
    for (int dz = -2; dz <= 2; ++dz) {
        if (p.z + dz < 0 || p.z + dz >= grid.depth) continue;
        const int rest = 2 - most(dz, -dz);
        for (int dy = -rest; dy <= rest; ++dy) {
            if (p.y + dy < 0 || p.y + dy >= grid.height) continue;
            const Index row = rows + (p.z + dz) * grid.height + p.y + dy;
            if (!marks.rows[row]) continue;
            const int wide = rest - most(dy, -dy);
            for (int x = most(0, p.x - wide); x <= least(grid.width - 1, p.x + wide); ++x) {
                if (marks.voxels[row * grid.width + x]) return true;
            }
        }
    }
    return false;
}

// What a fold is, and how it may be opened.
struct Opening {
    Vector ease;     // how readily each component moves: (1 mm / spacing)^2
    float threshold; // a determinant up to this is a fold
    float target;    // what to open it to
    float overstep;  // share of the step that a linear determinant would need
    float longest;   // voxels that one step may move a voxel
};

SEGREG_BODY Vector cross(Vector a, Vector b) {
    return make_vector(a.y * b.x - a.x * b.y, a.x * b.z - a.z * b.x, a.z * b.y - a.y * b.z);
}

SEGREG_BODY float dot(Vector a, Vector b) {
    return a.z * b.z + a.y * b.y + a.x * b.x;
}

// (I + grad u) along one axis.
SEGREG_BODY Vector tangent(const float* field, Index voxels, Index index, const Difference& d,
                           Vector unit) {
    return add(unit, make_vector(slope(field, index, d), slope(field + voxels, index, d),
                                 slope(field + 2 * voxels, index, d)));
}

SEGREG_BODY float freedom_at(const float* freedom, Index index) {
    return freedom ? freedom[index] : 1.0f;
}

// Squared length of the determinant's gradient with respect to the two ends of a difference.
SEGREG_BODY float gradient_square(const float* freedom, Index index, const Difference& d,
                                  Vector gradient, Vector ease) {
    if (d.low == d.high) return 0.0f;
    const Vector eased = make_vector(ease.z * gradient.z, ease.y * gradient.y, ease.x * gradient.x);
    const float ends = freedom_at(freedom, index + d.low) + freedom_at(freedom, index + d.high);
    return d.factor * d.factor * ends * dot(gradient, eased);
}

// Moves the two ends of a difference apart along the gradient.
SEGREG_BODY void move_ends(float* field, Index voxels, Index index, const float* freedom,
                           const Difference& d, Vector gradient, const Opening& opening,
                           float length) {
    if (d.low == d.high) return;
    const float factor = length * d.factor;
    Vector step = make_vector(factor * opening.ease.z * gradient.z,
                              factor * opening.ease.y * gradient.y,
                              factor * opening.ease.x * gradient.x);
    const float size = sqrtf(squared_length(step));
    const float cut = size > opening.longest ? opening.longest / size : 1.0f;
    const float ahead = cut * freedom_at(freedom, index + d.high);
    const float behind = cut * freedom_at(freedom, index + d.low);
    const Vector high = load_vector(field, voxels, index + d.high);
    const Vector low = load_vector(field, voxels, index + d.low);
    store_vector(field, voxels, index + d.high,
                 make_vector(high.z + ahead * step.z, high.y + ahead * step.y,
                             high.x + ahead * step.x));
    store_vector(field, voxels, index + d.low,
                 make_vector(low.z - behind * step.z, low.y - behind * step.y,
                             low.x - behind * step.x));
}

// If the voxel folds, moves its neighbours by the least change that opens it to first order:
// u += t F E grad J, t = overstep (target - J) / (grad J . F E grad J), with E the ease of the
// components and F the freedom of the voxels. The gradient of a determinant is made of cofactors.
SEGREG_BODY void open_fold(float* field, Index voxels, Grid grid, const float* freedom, int z,
                           int y, int x, const Opening& opening) {
    const Index index = ((Index)z * grid.height + y) * grid.width + x;
    const Difference dz = difference(z, grid.depth, (Index)grid.height * grid.width);
    const Difference dy = difference(y, grid.height, grid.width);
    const Difference dx = difference(x, grid.width, 1);
    const Vector tz = tangent(field, voxels, index, dz, make_vector(1.0f, 0.0f, 0.0f));
    const Vector ty = tangent(field, voxels, index, dy, make_vector(0.0f, 1.0f, 0.0f));
    const Vector tx = tangent(field, voxels, index, dx, make_vector(0.0f, 0.0f, 1.0f));
    const Vector cz = cross(ty, tx), cy = cross(tx, tz), cx = cross(tz, ty);
    const float determinant = dot(tz, cz);
    if (!(determinant <= opening.threshold)) return;
    // The small number keeps a gradient that vanishes from asking for an endless step.
    const float square = gradient_square(freedom, index, dz, cz, opening.ease) +
                         gradient_square(freedom, index, dy, cy, opening.ease) +
                         gradient_square(freedom, index, dx, cx, opening.ease) + 1e-3f;
    const float length = opening.overstep * (opening.target - determinant) / square;
    move_ends(field, voxels, index, freedom, dz, cz, opening, length);
    move_ends(field, voxels, index, freedom, dy, cy, opening, length);
    move_ends(field, voxels, index, freedom, dx, cx, opening, length);
}

}  // namespace segreg
