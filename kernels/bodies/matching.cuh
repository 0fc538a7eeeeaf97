// One step of a refinement: what the moving side shows under a displacement, the normal equations
// of image and outlines, and their solution.
#pragma once

#include "interpolation.cuh"
#include "within.cuh"

namespace segreg {

// A value with its slope along (z, y, x).
struct Sample {
    float value;
    Vector slope;
};

// Trilinear value of eight corners (x runs fastest) and its slope.
SEGREG_BODY Sample sample_corners(const float v[8], float z, float y, float x) {
    const float x00 = mix(v[0], v[1], x), x01 = mix(v[2], v[3], x);
    const float x10 = mix(v[4], v[5], x), x11 = mix(v[6], v[7], x);
    const float low = mix(x00, x01, y), high = mix(x10, x11, y);
    Sample s;
    s.value = mix(low, high, z);
    s.slope.z = high - low;
    s.slope.y = mix(x01 - x00, x11 - x10, z);
    s.slope.x = mix(mix(v[1] - v[0], v[3] - v[2], y), mix(v[5] - v[4], v[7] - v[6], y), z);
    return s;
}

struct CornerIndices {
    int at[8];
};

SEGREG_BODY CornerIndices corner_indices(const Corners& c) {
    const CornerIndices i = {{c.row00 + c.x.low, c.row00 + c.x.high, c.row01 + c.x.low,
                              c.row01 + c.x.high, c.row10 + c.x.low, c.row10 + c.x.high,
                              c.row11 + c.x.low, c.row11 + c.x.high}};
    return i;
}

// Signed distance to the outline of `region`, inside negative, at a voxel of which only the
// distance to the nearest other region is known. Where that is a third region, `known` is cleared.
SEGREG_BODY float signed_distance(int word, float distance, int region, bool& known) {
    const bool own = own_region(word) == region, other = other_region(word) == region;
    known = known & (own | other);
    return own ? -distance : distance;
}

// Slope along moving axes -> slope along fixed axes, per `unit`.
SEGREG_BODY Vector pulled_back(const Affine& a, Vector slope, Vector unit) {
    return make_vector((a.m[0] * slope.z + a.m[4] * slope.y + a.m[8] * slope.x) * unit.z,
                       (a.m[1] * slope.z + a.m[5] * slope.y + a.m[9] * slope.x) * unit.y,
                       (a.m[2] * slope.z + a.m[6] * slope.y + a.m[10] * slope.x) * unit.x);
}

// The moving side as a refinement sees it.
struct MovingSide {
    const float* image;
    const int* words;
    const float* distances;
    Grid grid;
    Affine affine;
};

// How closely outlines must match. `rest` is the weight of one that does match: it resists. From
// `beyond` voxels beyond the grid on there is no way back: a region may go on unseen.
struct Tolerance {
    float margin, slack, rest, beyond;
};

// Both sides at one fixed voxel: the moving image, and how far its outline is off.
struct Match {
    Sample image, outline;  // outline.value: fixed minus moving signed distance
};

// How far the outline is off, given the signed distances of both sides: a voxel that looks outside
// its region, or less than `margin` inside, must get in; others may differ by `slack`.
SEGREG_BODY float outline_error(float fixed, float moving, const Tolerance& t) {
    const float error = fixed - moving, into = -t.margin - moving;
    const float over = error > t.slack ? error - t.slack : 0.0f;
    const float under = error < -t.slack ? error + t.slack : 0.0f;
    return into < 0.0f ? into : over + under;
}

// How far a position lies beyond the grid, (z, y, x), in its voxels: where the outside begins.
SEGREG_BODY float beyond_axis(float position, int length) {
    const float low = -0.5f - position, high = position - ((float)length - 0.5f);
    return low > 0.0f ? -low : high >= 0.0f ? high + 1e-3f : 0.0f;
}

SEGREG_BODY Vector beyond_grid(Grid grid, Vector p) {
    return make_vector(beyond_axis(p.z, grid.depth), beyond_axis(p.y, grid.height),
                       beyond_axis(p.x, grid.width));
}

constexpr float LEAST_SLOPE = 0.03f;  // of a vote, per length

// Signed distance to where the vote of warp_labels turns, to first order: what `share` of a cell is
// the region's is linear in the position, and a half is where it turns. `share` has its slope along
// fixed axes. Flat where all eight corners agree: no distance, and `voted` is cleared.
SEGREG_BODY Sample vote_distance(Sample share, bool& voted) {
    const float steepness = sqrtf(squared_length(share.slope));
    voted = voted & (steepness > LEAST_SLOPE);
    const float scale = voted ? -1.0f / steepness : 0.0f;
    Sample s;
    s.value = scale * (share.value - 0.5f);
    s.slope = scaled(scale, share.slope);
    return s;
}

// By how much a fixed voxel's outline is off at a position of the moving grid, and the slope of that.
SEGREG_BODY Sample outline_at(const MovingSide& moving, Vector p, const Corners& c,
                              const CornerIndices& i, int region, float fixed_distance,
                              Vector unit, const Tolerance& tolerance) {
    float distance[8], own[8];
    const bool seen = lies_inside(moving.grid, p);
    bool known = seen;
    SEGREG_UNROLL
    for (int k = 0; k < 8; ++k) {
        const int word = moving.words[i.at[k]];
        distance[k] = signed_distance(word, moving.distances[i.at[k]], region, known);
        own[k] = own_region(word) == region ? 1.0f : 0.0f;
    }
    Sample outline = sample_corners(distance, c.z.fraction, c.y.fraction, c.x.fraction);
    Sample share = sample_corners(own, c.z.fraction, c.y.fraction, c.x.fraction);
    // Beyond the grid nothing belongs to a region: the way back is the way in.
    const Vector beyond = beyond_grid(moving.grid, p);
    const float away = sqrtf(squared_length(beyond)), back = seen ? 0.0f : -1.0f / away;
    share.value = seen ? share.value : 0.5f - away;
    share.slope.z = seen ? share.slope.z : back * beyond.z;
    share.slope.y = seen ? share.slope.y : back * beyond.y;
    share.slope.x = seen ? share.slope.x : back * beyond.x;
    bool voted = seen | ((region > 0) & (away < tolerance.beyond));
    const bool lost = share.value < 0.5f;
    outline.slope = pulled_back(moving.affine, outline.slope, unit);
    share.slope = pulled_back(moving.affine, share.slope, unit);
    share = vote_distance(share, voted);
    // What the vote takes away is won back by its own slope; else the outline says more.
    const bool by_vote = voted & (lost | !known);
    const float reached = by_vote ? share.value : outline.value;
    // How deep a voxel is the vote cannot say: only what is lost is off.
    const float fixed = known ? -fixed_distance : reached;
    const float error = outline_error(fixed, reached, tolerance);
    const float counts = known | by_vote ? (error != 0.0f ? 1.0f : tolerance.rest) : 0.0f;
    Sample off;
    off.value = counts * error;
    off.slope = make_vector(counts * (by_vote ? share.slope.z : outline.slope.z),
                            counts * (by_vote ? share.slope.y : outline.slope.y),
                            counts * (by_vote ? share.slope.x : outline.slope.x));
    return off;
}

// The moving image at a position, with its slope along fixed axes; flat beyond the grid.
SEGREG_BODY Sample image_at(const MovingSide& moving, Vector p, const Corners& c,
                            const CornerIndices& i, Vector unit) {
    float v[8];
    SEGREG_UNROLL
    for (int k = 0; k < 8; ++k) v[k] = moving.image[i.at[k]];
    Sample image = sample_corners(v, c.z.fraction, c.y.fraction, c.x.fraction);
    image.slope = pulled_back(moving.affine, image.slope, unit);
    image.slope = scaled(lies_inside(moving.grid, p) ? 1.0f : 0.0f, image.slope);
    return image;
}

SEGREG_BODY Match match_at(const MovingSide& moving, Vector p, int region, float fixed_distance,
                           Vector unit, const Tolerance& tolerance) {
    const Corners c = corners(moving.grid, p);
    const CornerIndices i = corner_indices(c);
    Match m;
    m.image = image_at(moving, p, c, i, unit);
    m.outline = outline_at(moving, p, c, i, region, fixed_distance, unit, tolerance);
    return m;
}

// Channels of what matching writes: the moving image, its square, its product with the fixed one;
// its slope; the outline's error and slope.
enum MatchChannel {
    MOVING,
    MOVING_SQUARE,
    PRODUCT,
    IMAGE_SLOPE,
    OUTLINE_ERROR = IMAGE_SLOPE + 3,
    OUTLINE_SLOPE,
};

SEGREG_BODY void store_match(float* matches, Index voxels, Index index, float fixed,
                             const Match& m) {
    matches[MOVING * voxels + index] = m.image.value;
    matches[MOVING_SQUARE * voxels + index] = m.image.value * m.image.value;
    matches[PRODUCT * voxels + index] = m.image.value * fixed;
    store_vector(matches + IMAGE_SLOPE * voxels, voxels, index, m.image.slope);
    matches[OUTLINE_ERROR * voxels + index] = m.outline.value;
    store_vector(matches + OUTLINE_SLOPE * voxels, voxels, index, m.outline.slope);
}

// Means of the fixed image and its square in a voxel's window, and of the moving image, its
// square, and the product of both.
struct Window {
    float fixed, fixed_square, moving, moving_square, product;
};

// A row of a least-squares problem in the step: slope . step = residual.
struct Equation {
    Vector slope;
    float residual;
};

SEGREG_BODY float not_below_zero(float value) {
    return value > 0.0f ? value : 0.0f;
}

// Local correlation, linearised: the moving window, fitted linearly to the fixed one, in units of
// the fixed window's standard deviation (Lorenzi et al., LCC-Demons, NeuroImage 81, 2013).
// `floor` is the variance below which a window shows nothing but noise.
SEGREG_BODY Equation correlate(float fixed, float moving, Vector slope, const Window& w,
                               float floor) {
    const float fixed_variance = not_below_zero(w.fixed_square - w.fixed * w.fixed);
    const float moving_variance = not_below_zero(w.moving_square - w.moving * w.moving);
    const float covariance = w.product - w.fixed * w.moving;
    const float scale = 1.0f / (sqrtf(fixed_variance + floor) * (moving_variance + floor));
    const float fit = scale * covariance;
    Equation e;
    e.slope = scaled(fit, slope);
    // Both sides shrink by the floor: images that are linear in each other leave no residual.
    e.residual = scale * moving_variance * (fixed - w.fixed) - fit * (moving - w.moving);
    return e;
}

// The nine numbers of the normal equations: the matrix zz, zy, zx, yy, yx, xx, the right side.
struct Normal {
    float n[9];
};

// One by one, here and below: of a loop over them the host compiler makes an array, and vectorises
// nothing.
SEGREG_BODY void store_normal(float* normals, Index voxels, Index index, float share,
                              const Normal& s) {
    normals[index] = share * s.n[0];
    normals[voxels + index] = share * s.n[1];
    normals[2 * voxels + index] = share * s.n[2];
    normals[3 * voxels + index] = share * s.n[3];
    normals[4 * voxels + index] = share * s.n[4];
    normals[5 * voxels + index] = share * s.n[5];
    normals[6 * voxels + index] = share * s.n[6];
    normals[7 * voxels + index] = share * s.n[7];
    normals[8 * voxels + index] = share * s.n[8];
}

// Adds to what is there.
SEGREG_BODY void raise_normal(float* normals, Index voxels, Index index, float share,
                              const Normal& s) {
    normals[index] += share * s.n[0];
    normals[voxels + index] += share * s.n[1];
    normals[2 * voxels + index] += share * s.n[2];
    normals[3 * voxels + index] += share * s.n[3];
    normals[4 * voxels + index] += share * s.n[4];
    normals[5 * voxels + index] += share * s.n[5];
    normals[6 * voxels + index] += share * s.n[6];
    normals[7 * voxels + index] += share * s.n[7];
    normals[8 * voxels + index] += share * s.n[8];
}

SEGREG_BODY Normal load_normal(const float* normals, Index voxels, Index index) {
    const Normal s = {{normals[index], normals[voxels + index], normals[2 * voxels + index],
                       normals[3 * voxels + index], normals[4 * voxels + index],
                       normals[5 * voxels + index], normals[6 * voxels + index],
                       normals[7 * voxels + index], normals[8 * voxels + index]}};
    return s;
}

SEGREG_BODY void add_equation(Normal& sum, const Equation& e, float weight) {
    const float z = weight * e.slope.z, y = weight * e.slope.y, x = weight * e.slope.x;
    sum.n[0] += z * e.slope.z;
    sum.n[1] += z * e.slope.y;
    sum.n[2] += z * e.slope.x;
    sum.n[3] += y * e.slope.y;
    sum.n[4] += y * e.slope.x;
    sum.n[5] += x * e.slope.x;
    sum.n[6] += z * e.residual;
    sum.n[7] += y * e.residual;
    sum.n[8] += x * e.residual;
}

struct EquationWeights {
    float image, outline, floor;
};

// (matrix + damping)^-1 right side, at most `longest` long.
SEGREG_BODY Vector solve_step(const Normal& s, float damping, float longest) {
    const float zz = s.n[0] + damping, yy = s.n[3] + damping, xx = s.n[5] + damping;
    const float zy = s.n[1], zx = s.n[2], yx = s.n[4];
    const float c00 = yy * xx - yx * yx, c01 = zx * yx - zy * xx, c02 = zy * yx - zx * yy;
    const float c11 = zz * xx - zx * zx, c12 = zy * zx - zz * yx, c22 = zz * yy - zy * zy;
    const float scale = 1.0f / (zz * c00 + zy * c01 + zx * c02);
    const Vector step = make_vector(
        scale * (c00 * s.n[6] + c01 * s.n[7] + c02 * s.n[8]),
        scale * (c01 * s.n[6] + c11 * s.n[7] + c12 * s.n[8]),
        scale * (c02 * s.n[6] + c12 * s.n[7] + c22 * s.n[8]));
    const float square = squared_length(step);
    const float share = square > longest * longest ? longest / sqrtf(square) : 1.0f;
    return scaled(share, step);
}

// Takes a step, in lengths, to the displacement of one voxel; `unit` is voxels per length.
SEGREG_BODY void move_by(float* displacement, Index voxels, Index index, Vector step,
                         Vector unit) {
    const Vector moved = make_vector(step.z * unit.z, step.y * unit.y, step.x * unit.x);
    store_vector(displacement, voxels, index,
                 add(load_vector(displacement, voxels, index), moved));
}

// The change of a coarse field at a position of its grid, from those corners that lie in `region`;
// from all of them where none does.
SEGREG_BODY Vector change_at(const float* change, const int* regions, Grid grid, Vector p,
                             int region) {
    const Index voxels = voxels_of(grid);
    const Corners c = corners(grid, p);
    const CornerIndices i = corner_indices(c);
    Vector sum = make_vector(0.0f, 0.0f, 0.0f), all = sum;
    float total = 0.0f;
    SEGREG_UNROLL
    for (int k = 0; k < 8; ++k) {
        const float z = k & 4 ? c.z.fraction : 1.0f - c.z.fraction;
        const float y = k & 2 ? c.y.fraction : 1.0f - c.y.fraction;
        const float x = k & 1 ? c.x.fraction : 1.0f - c.x.fraction;
        const Vector v = load_vector(change, voxels, i.at[k]);
        const float counts = regions[i.at[k]] == region ? z * y * x : 0.0f;
        sum = add(sum, scaled(counts, v));
        all = add(all, scaled(z * y * x, v));
        total += counts;
    }
    const bool any = total > 1e-3f;
    return any ? scaled(1.0f / total, sum) : all;
}

}  // namespace segreg
