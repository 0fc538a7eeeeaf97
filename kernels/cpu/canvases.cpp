#include "canvases.cuh"

#include "kernels.hpp"
#include "launch.hpp"
#include "rows.hpp"

namespace segreg {
namespace {

// Buffers of one row: the field's row (3), positions (3), values, masks and their products. They
// are longer by a vector: what lies beyond the row is computed and never written.
struct RowBuffers {
    int stride;
    std::vector<float> memory;
    float *field, *positions, *values, *masks, *products;

    RowBuffers(int width, int field_width)
        : stride(width + LANES), memory((size_t)3 * field_width + 6 * stride) {
        field = memory.data();
        positions = field + 3 * field_width;
        values = positions + 3 * stride;
        masks = values + stride;
        products = masks + stride;
    }
};

// Least and largest displacement of each row of a field: (rows, 3, 2), in cells of the canvas.
SEGREG_CLONES
void field_limits(const float* field, Grid grid, float scale, float* limits) {
    const int64 rows = (int64)grid.depth * grid.height;
    for (int64 i = 0; i < 3 * rows; ++i) {
        const float* row = field + i * grid.width;
        float low = row[0], high = row[0];
        for (int x = 1; x < grid.width; ++x) {
            low = row[x] < low ? row[x] : low;
            high = row[x] > high ? row[x] : high;
        }
        float* out = limits + 6 * (i % rows) + 2 * (i / rows);
        out[0] = scale * low;
        out[1] = scale * high;
    }
}

// How far the cells of a row may be carried: about `middle`, give or take `half`.
struct Drift {
    float middle[3], half[3];
};

Drift drift_of(const float* limits, int height, Neighbours z, Neighbours y) {
    const float* rows[4] = {
        limits + 6 * (z.low * height + y.low), limits + 6 * (z.low * height + y.high),
        limits + 6 * (z.high * height + y.low), limits + 6 * (z.high * height + y.high)};
    Drift drift;
    for (int c = 0; c < 3; ++c) {
        float low = rows[0][2 * c], high = rows[0][2 * c + 1];
        for (int i = 1; i < 4; ++i) {
            low = std::min(low, rows[i][2 * c]);
            high = std::max(high, rows[i][2 * c + 1]);
        }
        drift.middle[c] = 0.5f * (low + high);
        drift.half[c] = 0.5f * (high - low);
    }
    return drift;
}

// What the search for a row's reach needs to know along one axis of the image.
struct Approach {
    float row[4];   // of the affine
    float inverse;  // of the step from cell to cell; 0 if there is hardly any
    float low, high;
    bool flat;
};

Approach approach_of(const float* affine_row, Axis axis, int width) {
    Approach a;
    std::copy(affine_row, affine_row + 4, a.row);
    a.inverse = fabsf(a.row[2]) * (float)width < 1e-3f ? 0.0f : 1.0f / a.row[2];
    a.low = (float)axis.origin;
    a.high = (float)(axis.origin + axis.cells);
    a.flat = axis.thick == 0.0f;
    return a;
}

// Cells of the row through `first` that may come to lie beside the region's voxels along an axis.
Span reached(Span span, const Approach& a, Vector first, const Drift& drift) {
    const float at = a.row[0] * (first.z + drift.middle[0]) +
                     a.row[1] * (first.y + drift.middle[1]) +
                     a.row[2] * (first.x + drift.middle[2]) + a.row[3];
    const float slack = fabsf(a.row[0]) * drift.half[0] + fabsf(a.row[1]) * drift.half[1] +
                        fabsf(a.row[2]) * drift.half[2] + 1e-2f;
    if (a.inverse == 0.0f) return at + slack > a.low && at - slack < a.high ? span : Span{0, 0};
    const float one = (a.low - at) * a.inverse, other = (a.high - at) * a.inverse;
    const float more = slack * fabsf(a.inverse) + 1.0f;
    const float end = (float)span.end;
    return {std::max(span.begin, (int)clamp(std::min(one, other) - more, 0.0f, end)),
            (int)clamp(std::max(one, other) + more + 1.0f, 0.0f, end)};
}

// Image positions (3, stride) of the cells of a span, moved by the row's displacement.
SEGREG_CLONES
void moved_positions(const Canvas& region, Vector first, Span span, int stride, const float* row,
                     float* SEGREG_RESTRICT positions) {
    const Affine a = region.affine;
    const float ratio = region.ratio, width = 1.0f / region.ratio;
    const int length = region.field.width;
    const float *uz = row, *uy = row + length, *ux = row + 2 * length;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const float cell = first.x + (float)x;
        const Neighbours n = neighbours((cell + 0.5f) * ratio - 0.5f, length);
        const Vector p = apply(
            a, make_vector(first.z + width * mix(uz[n.low], uz[n.high], n.fraction),
                           first.y + width * mix(uy[n.low], uy[n.high], n.fraction),
                           cell + width * mix(ux[n.low], ux[n.high], n.fraction)));
        positions[x] = p.z;
        positions[stride + x] = p.y;
        positions[2 * stride + x] = p.x;
    }
}

SEGREG_CLONES
void still_positions(const Affine& affine, Vector first, Span span, int stride,
                     float* SEGREG_RESTRICT positions) {
    const Affine a = affine;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const Vector p = apply(a, make_vector(first.z, first.y, first.x + (float)x));
        positions[x] = p.z;
        positions[stride + x] = p.y;
        positions[2 * stride + x] = p.x;
    }
}

SEGREG_CLONES
void row_masks(const Shape& region, const unsigned* SEGREG_RESTRICT words, Span span, int stride,
               const float* SEGREG_RESTRICT positions, float* SEGREG_RESTRICT masks) {
    const Shape shape = region;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const Vector p =
            make_vector(positions[x], positions[stride + x], positions[2 * stride + x]);
        masks[x] = shape_mask(words, shape, p);
    }
}

Span positive(const float* masks, Span span) {
    while (span.begin < span.end && !(masks[span.begin] > 0.0f)) ++span.begin;
    while (span.begin < span.end && !(masks[span.end - 1] > 0.0f)) --span.end;
    return span;
}

SEGREG_CLONES
void row_values(const float* image, Grid grid, const Canvas& region, Span span, int stride,
                const float* SEGREG_RESTRICT positions, float* SEGREG_RESTRICT values) {
    const Canvas canvas = region;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const Vector p =
            make_vector(positions[x], positions[stride + x], positions[2 * stride + x]);
        values[x] = region_value(image, grid, canvas, p);
    }
}

SEGREG_CLONES
void multiply(const float* SEGREG_RESTRICT values, const float* SEGREG_RESTRICT masks, Span span,
              float* SEGREG_RESTRICT products) {
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) products[x] = values[x] * masks[x];
}

SEGREG_CLONES
void round_row(const float* SEGREG_RESTRICT row, Span span, unsigned short* SEGREG_RESTRICT out) {
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) out[x] = half_of(row[x]);
}

// The cells of a span; beyond it, nothing.
void write_row(const float* row, Span span, int width, float* out) {
    std::fill(out, out + span.begin, 0.0f);
    std::copy(row + span.begin, row + span.end, out + span.begin);
    std::fill(out + span.end, out + width, 0.0f);
}

void write_row(const float* row, Span span, int width, unsigned short* out) {
    std::fill(out, out + span.begin, (unsigned short)0);
    round_row(row, span, out);
    std::fill(out + span.end, out + width, (unsigned short)0);
}

// One region: its canvas, its shape in the image, and how its rows come to lie there.
struct Subject {
    Canvas canvas;
    Shape shape;
    const unsigned* words;
    Approach approach[3];
    std::vector<float> limits;  // of the field's rows
};

Subject subject_of(const Canvas& canvas, const Shape& shape, const unsigned char* shapes,
                   int width) {
    Subject s;
    s.canvas = canvas;
    s.shape = shape;
    s.words = reinterpret_cast<const unsigned*>(shapes + shape.begin);
    const Axis axes[3] = {shape.z, shape.y, shape.x};
    for (int i = 0; i < 3; ++i) {
        s.approach[i] = approach_of(canvas.affine.m + 4 * i, axes[i], width);
    }
    if (canvas.displacement) {
        s.limits.resize((size_t)6 * canvas.field.depth * canvas.field.height);
        field_limits(canvas.displacement, canvas.field, 1.0f / canvas.ratio, s.limits.data());
    }
    return s;
}

// Image positions of the cells of the row through `first` that may see the region, or of all.
Span place_row(const Subject& subject, Vector first, bool whole, int width, RowBuffers& row) {
    const Canvas& canvas = subject.canvas;
    const Neighbours z = neighbours(field_position(canvas, first.z), canvas.field.depth);
    const Neighbours y = neighbours(field_position(canvas, first.y), canvas.field.height);
    Drift drift = {{0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f}};
    if (canvas.displacement) {
        drift = drift_of(subject.limits.data(), canvas.field.height, z, y);
    }
    Span span = {0, width};
    for (int axis = 0; axis < 3 && !whole; ++axis) {
        if (subject.approach[axis].flat) continue;
        span = reached(span, subject.approach[axis], first, drift);
        if (span.begin >= span.end) return {0, 0};
    }
    if (canvas.displacement) {
        // Still on the field's cells along x.
        field_row(canvas.displacement, canvas.field, z, y, row.field);
        moved_positions(canvas, first, filled(span), row.stride, row.field, row.positions);
    } else {
        still_positions(canvas.affine, first, filled(span), row.stride, row.positions);
    }
    return span;
}

// Image, its grid, and whether it is wanted outside the region too.
struct Source {
    const float* image;
    Grid grid;
    bool whole;
};

// Value, mask and product of the cells of row (z, y) that may show anything.
Span see_row(const Source& source, const Subject& subject, int z, int y, int width,
             RowBuffers& row) {
    const Vector first = make_vector((float)z, (float)y, 0.0f);
    Span span = place_row(subject, first, source.whole, width, row);
    const Span placed = filled(span);
    row_masks(subject.shape, subject.words, placed, row.stride, row.positions, row.masks);
    // Outside the region only the plain image has something to show.
    if (!source.whole) span = positive(row.masks, span);
    // Beyond what is placed lies what another row has left.
    const Span seen = {span.begin, std::min(filled(span).end, placed.end)};
    row_values(source.image, source.grid, subject.canvas, seen, row.stride, row.positions,
               row.values);
    multiply(row.values, row.masks, seen, row.products);
    return span;
}

SEGREG_CLONES
void sum_piece(const float* a, const float* b, int count, double* sums) {
    add_products(a, b, count, sums);
}

}  // namespace

void gather_regions(int64 size, const float* image, int depth, int height, int width,
                    const unsigned char* shapes, const int64* begins, const int* boxes,
                    const float* affines, const float* intensity, const float* displacement,
                    int stride, int canvas_depth, int canvas_height,
                    int canvas_width, int channels, int masked_channel, int mask_channel,
                    int image_channel, float* batch, unsigned short* halves) {
    const Grid grid = {depth, height, width};
    const Grid cells = {canvas_depth, canvas_height, canvas_width};
    const int64 voxels = voxels_of(cells);
    const int places[3] = {image_channel, mask_channel, masked_channel};
    std::vector<Subject> subjects((size_t)(size / voxels));
    parallel_ranges(size / voxels, 1, [&](int64 k, int64) {
        subjects[(size_t)k] = subject_of(
            canvas_of((int)k, affines, intensity, displacement, stride, cells),
            shape_of(boxes + 6 * k, grid, begins[k]), shapes, cells.width);
    });
    const Source source = {image, grid, image_channel >= 0};
    parallel_ranges(size / cells.width, rows_for(cells.width), [&](int64 begin, int64 end) {
        RowBuffers row(cells.width, cells.width / stride);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, cells);
            const Subject& subject = subjects[(size_t)r.batch];
            const Span span = see_row(source, subject, r.z, r.y, cells.width, row);
            const float* seen[3] = {row.values, row.masks, row.products};
            for (int j = 0; j < 3; ++j) {
                if (places[j] < 0) continue;
                const int64 place = (r.batch * channels + places[j]) * voxels + r.begin;
                if (halves) {
                    write_row(seen[j], span, cells.width, halves + place);
                } else {
                    write_row(seen[j], span, cells.width, batch + place);
                }
            }
        }
    });
}

void mask_products(int64 size, const float* batch, int channels, int voxels, int first, int second,
                   int pieces, double* sums) {
    parallel_ranges(size, 1, [&](int64 i, int64) {
        const float* canvas = batch + i / pieces * channels * voxels;
        const int begin = (int)(i % pieces) * SEGREG_PIECE;
        sum_piece(canvas + (int64)first * voxels + begin, canvas + (int64)second * voxels + begin,
                  least(SEGREG_PIECE, voxels - begin), sums + 3 * i);
    });
}

}  // namespace segreg
