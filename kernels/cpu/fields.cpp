#include "ahead.hpp"
#include "determinants.hpp"
#include "kernels.hpp"
#include "rows.hpp"

namespace segreg {

SEGREG_CLONES
void determinant_row(const float* field, Grid grid, int z, int y,
                     float* SEGREG_RESTRICT determinants) {
    const int64 voxels = voxels_of(grid);
    const int64 begin = ((int64)z * grid.height + y) * grid.width;
    const int last = grid.width - 1;
    const Difference dz = difference(z, grid.depth, (int64)grid.height * grid.width);
    const Difference dy = difference(y, grid.height, grid.width);
    // The inside of the row has one difference for all, so its loads are contiguous.
    const Difference dx = difference(1, 3, 1);
    SEGREG_SIMD
    for (int x = 1; x < last; ++x) {
        determinants[x] = determinant(field, voxels, begin + x, dz, dy, dx);
    }
    determinants[0] = determinant(field, voxels, begin, dz, dy, difference(0, grid.width, 1));
    determinants[last] =
        determinant(field, voxels, begin + last, dz, dy, difference(last, grid.width, 1));
}

SEGREG_CLONES
void field_row(const float* field, Grid grid, Neighbours z, Neighbours y,
               float* SEGREG_RESTRICT row) {
    const int width = grid.width;
    for (int c = 0; c < 3; ++c) {
        const float* component = field + c * voxels_of(grid);
        const float* v00 = component + (z.low * grid.height + y.low) * width;
        const float* v01 = component + (z.low * grid.height + y.high) * width;
        const float* v10 = component + (z.high * grid.height + y.low) * width;
        const float* v11 = component + (z.high * grid.height + y.high) * width;
        float* out = row + c * width;
        SEGREG_SIMD
        for (int x = 0; x < width; ++x) {
            out[x] = mix(mix(v00[x], v01[x], y.fraction), mix(v10[x], v11[x], y.fraction),
                         z.fraction);
        }
    }
}

namespace {

SEGREG_CLONES
void compose_rows(int64 begin, int64 end, const float* first, const float* second, Grid grid,
                  float scale, float* composition) {
    const int64 voxels = voxels_of(grid);
    for (int64 row = begin; row < end; ++row) {
        const Row r = row_of(row, grid);
        const float* outer = first + 3 * voxels * r.batch;
        const float* inner = second + 3 * voxels * r.batch + r.begin;
        float* out = composition + 3 * voxels * r.batch + r.begin;
        SEGREG_SIMD
        for (int x = 0; x < grid.width; ++x) {
            const Vector u = make_vector(inner[x], inner[voxels + x], inner[2 * voxels + x]);
            const Vector v =
                composed(outer, grid, scale, u, make_vector((float)r.z, (float)r.y, (float)x));
            out[x] = v.z;
            out[voxels + x] = v.y;
            out[2 * voxels + x] = v.x;
        }
    }
}

// Searches run side by side, so many voxels of a row at once: enough for the vectors, few enough
// that easy voxels do not wait for hard ones.
const int SIDE_BY_SIDE = 32;

// Their state lies component by component: target, point, residual (3 each), error, step.
SEGREG_CLONES
void begin_searches(const float* field, Grid grid, const Affine& affine, const Affine& guess,
                    Vector first, int width, float* SEGREG_RESTRICT state) {
    const Affine to_fixed = affine, start = guess;
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector voxel = make_vector(first.z, first.y, first.x + (float)x);
        const Vector target = apply(to_fixed, voxel);
        const Search s = begin_search(field, grid, start, target);
        state[x] = target.z;
        state[width + x] = target.y;
        state[2 * width + x] = target.x;
        state[3 * width + x] = s.point.z;
        state[4 * width + x] = s.point.y;
        state[5 * width + x] = s.point.x;
        state[6 * width + x] = s.residual.z;
        state[7 * width + x] = s.residual.y;
        state[8 * width + x] = s.residual.x;
        state[9 * width + x] = s.error;
        state[10 * width + x] = s.step;
    }
}

SEGREG_CLONES
void improve_searches(const float* field, Grid grid, const Affine& guess, float enough, int width,
                      float* SEGREG_RESTRICT state) {
    const Affine start = guess;
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector target = make_vector(state[x], state[width + x], state[2 * width + x]);
        Search s;
        s.point = make_vector(state[3 * width + x], state[4 * width + x], state[5 * width + x]);
        s.residual = make_vector(state[6 * width + x], state[7 * width + x], state[8 * width + x]);
        s.error = state[9 * width + x];
        s.step = state[10 * width + x];
        s = improve(field, grid, start, target, enough, s);
        state[3 * width + x] = s.point.z;
        state[4 * width + x] = s.point.y;
        state[5 * width + x] = s.point.x;
        state[6 * width + x] = s.residual.z;
        state[7 * width + x] = s.residual.y;
        state[8 * width + x] = s.residual.x;
        state[9 * width + x] = s.error;
        state[10 * width + x] = s.step;
    }
}

bool all_within(const float* errors, int width, float enough) {
    return std::all_of(errors, errors + width, [enough](float e) { return !(e > enough); });
}

void invert_rows(int64 begin, int64 end, const float* field, Grid grid, const Affine& affine,
                 const Affine& guess, Grid target, int steps, float enough, float* inverse,
                 float* residual) {
    const int64 voxels = voxels_of(target);
    float state[11 * SIDE_BY_SIDE];
    for (int64 row = begin; row < end; ++row) {
        const Row r = row_of(row, target);
        for (int x = 0; x < target.width; x += SIDE_BY_SIDE) {
            const int width = least(SIDE_BY_SIDE, target.width - x);
            const float* errors = state + 9 * width;
            begin_searches(field, grid, affine, guess,
                           make_vector((float)r.z, (float)r.y, (float)x), width, state);
            for (int i = 0; i < steps && !all_within(errors, width, enough); ++i) {
                improve_searches(field, grid, guess, enough, width, state);
            }
            float* out = inverse + r.begin + x;
            for (int c = 0; c < 3; ++c) {
                const float *goal = state + c * width, *point = state + (3 + c) * width;
                for (int i = 0; i < width; ++i) out[c * voxels + i] = point[i] - goal[i];
            }
            for (int i = 0; i < width; ++i) residual[r.begin + x + i] = sqrtf(errors[i]);
        }
    }
}

// A row of cells, from that of the field between whose rows it lies.
SEGREG_CLONES
void resample_row(const float* row, int length, Vector ratio, int width, int64 voxels,
                  float* SEGREG_RESTRICT resized) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Neighbours n = neighbours(cell_position((float)x, ratio.x), length);
        resized[x] = mix(row[n.low], row[n.high], n.fraction) / ratio.z;
        resized[voxels + x] =
            mix(row[length + n.low], row[length + n.high], n.fraction) / ratio.y;
        resized[2 * voxels + x] =
            mix(row[2 * length + n.low], row[2 * length + n.high], n.fraction) / ratio.x;
    }
}

void resample_rows(int64 begin, int64 end, const float* field, Grid grid, Grid cells,
                   float* resized) {
    const int64 voxels = voxels_of(cells);
    const Vector ratio = cell_ratio(grid, cells);
    std::vector<float> between((size_t)3 * grid.width);
    for (int64 row = begin; row < end; ++row) {
        const Row r = row_of(row, cells);
        field_row(field + 3 * voxels_of(grid) * r.batch, grid,
                  neighbours(cell_position((float)r.z, ratio.z), grid.depth),
                  neighbours(cell_position((float)r.y, ratio.y), grid.height), between.data());
        resample_row(between.data(), grid.width, ratio, cells.width, voxels,
                     resized + 3 * voxels * r.batch + r.begin);
    }
}

}  // namespace

void compose(int64 size, const float* first, const float* second, int depth, int height,
             int width, float scale, float* composition) {
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        const Box box = looked_at(grid, grid, begin, end, [&](const Row& r, int x) {
            const Vector u = load_vector(second + 3 * voxels * r.batch, voxels, r.begin + x);
            return add(make_vector((float)r.z, (float)r.y, (float)x), scaled(scale, u));
        });
        const float* seen = first + 3 * voxels * row_of(begin, grid).batch;
        for (int c = 0; c < 3; ++c) {
            fetch_ahead(seen + c * voxels, grid, box, (end - begin) * width);
        }
        compose_rows(begin, end, first, second, grid, scale, composition);
    });
}

void jacobian_determinant(int64 size, const float* displacement, int depth, int height, int width,
                          float* determinants) {
    const Grid grid = {depth, height, width};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            determinant_row(displacement + 3 * voxels_of(grid) * r.batch, grid, r.z, r.y,
                            determinants + voxels_of(grid) * r.batch + r.begin);
        }
    });
}

void invert(int64 size, const float* displacement, int depth, int height, int width,
            Affine affine, Affine guess, int target_depth, int target_height, int target_width,
            int steps, float tolerance, float* inverse, float* residual) {
    const Grid grid = {depth, height, width};
    const Grid target = {target_depth, target_height, target_width};
    parallel_ranges(size / target_width, rows_for(target_width), [&](int64 begin, int64 end) {
        invert_rows(begin, end, displacement, grid, affine, guess, target, steps,
                    tolerance * tolerance, inverse, residual);
    });
}

void resample_field(int64 size, const float* field, int depth, int height, int width,
                    int new_depth, int new_height, int new_width, float* resized) {
    const Grid grid = {depth, height, width};
    const Grid cells = {new_depth, new_height, new_width};
    parallel_ranges(size / new_width, rows_for(new_width), [&](int64 begin, int64 end) {
        resample_rows(begin, end, field, grid, cells, resized);
    });
}

}  // namespace segreg
