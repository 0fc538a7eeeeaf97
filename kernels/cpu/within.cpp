#include "within.cuh"

#include "blocks.hpp"
#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {
namespace {

const int SLICES = 8, ROWS = 16;  // of a block: its rows and those beside them stay in the cache

// A row's neighbours `offset` away on an axis: where they lie, which part of the row has them.
struct Shifted {
    int64 step, stride;
    int begin, end;
};

Shifted shifted_row(Grid grid, int axis, const Row& r, int offset) {
    const int place = axis == 0 ? r.z : r.y, length = axis == 0 ? grid.depth : grid.height;
    if (axis == 2) {
        return {offset, 1, least(most(-offset, 0), grid.width),
                most(grid.width - most(offset, 0), 0)};
    }
    const int64 stride = axis == 0 ? (int64)grid.height * grid.width : grid.width;
    const bool there = place + offset >= 0 && place + offset < length;
    return {offset * stride, stride, 0, there ? grid.width : 0};
}

SEGREG_CLONES
void follow_row(const float* SEGREG_RESTRICT edges, int begin, int end,
                float* SEGREG_RESTRICT path) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) path[x] *= edges[x];
}

// The part of a row that is wanted.
struct Span {
    int begin, end;
};

// What two spans share; empty where that is nothing.
Span shared(Span wanted, int begin, int end) {
    const int first = most(wanted.begin, begin);
    return {first, most(first, least(wanted.end, end))};
}

// How a row is coupled with the neighbours one further along; not at all beyond the grid.
void couple_row(const float* edges, const Shifted& s, Span wanted, float* path) {
    const Span there = shared(wanted, s.begin, s.end);
    if (there.begin >= there.end) {
        std::fill(path + wanted.begin, path + wanted.end, 0.0f);
        return;
    }
    follow_row(edges, there.begin, there.end, path);
    std::fill(path + wanted.begin, path + there.begin, 0.0f);
    std::fill(path + there.end, path + wanted.end, 0.0f);
}

SEGREG_CLONES
void weigh_row(const float* SEGREG_RESTRICT path, const float* SEGREG_RESTRICT back, float weight,
               int begin, int end, float* SEGREG_RESTRICT weights, float* SEGREG_RESTRICT total) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) {
        weights[x] = weight * path[x] * back[x];
        total[x] += weights[x];
    }
}

SEGREG_CLONES
void add_row(const float* SEGREG_RESTRICT values, const float* SEGREG_RESTRICT weights, int begin,
             int end, float* SEGREG_RESTRICT sum) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) sum[x] += weights[x] * values[x];
}

SEGREG_CLONES
void divide_row(const float* SEGREG_RESTRICT total, int begin, int end,
                float* SEGREG_RESTRICT sum) {
    SEGREG_SIMD
    for (int x = begin; x < end; ++x) sum[x] /= total[x];
}

// Room for the weights of a row: how it is coupled with the rows before and after, and their part.
struct RowWeights {
    std::vector<float> before, after, ones, tap, total;
    explicit RowWeights(int width)
        : before(width), after(width), ones(width, 1.0f), tap(width), total(width) {}
};

// Means along an axis of all channels of one row: source(c, k) is the row of channel c that stands
// for the voxels k away.
template <typename Source, typename Target>
void mean_row(const float* edges, Grid grid, int axis, const Row& r, Span wanted, const Taps& taps,
              int paired, int channels, RowWeights& room, const Source& source,
              const Target& target) {
    const int begin = wanted.begin, end = wanted.end;
    const float centre = weight_at(taps, 0);
    for (int c = 0; c < channels; ++c) {
        const float* here = source(c, 0);
        float* out = target(c);
        for (int x = begin; x < end; ++x) out[x] = centre * here[x];
    }
    std::fill(room.total.begin() + begin, room.total.begin() + end, centre);
    std::fill(room.before.begin() + begin, room.before.begin() + end, 1.0f);
    std::fill(room.after.begin() + begin, room.after.begin() + end, 1.0f);
    const float* row = edges + axis * voxels_of(grid) + r.begin;
    for (int k = 1; k <= taps.radius; ++k) {
        const Shifted before = shifted_row(grid, axis, r, -k);
        const Shifted after = shifted_row(grid, axis, r, k);
        // The edge behind a voxel leads to the next one; it is none where the grid ends.
        couple_row(row + before.step, before, wanted, room.before.data());
        couple_row(row + after.step - after.stride, after, wanted, room.after.data());
        const float weight = weight_at(taps, k);
        const float *back = room.before.data(), *on = room.after.data(), *ones = room.ones.data();
        float *tap = room.tap.data(), *total = room.total.data();
        weigh_row(back, paired ? on : ones, weight, begin, end, tap, total);
        const Span behind = shared(wanted, before.begin, before.end);
        for (int c = 0; c < channels; ++c) {
            add_row(source(c, -k), tap, behind.begin, behind.end, target(c));
        }
        weigh_row(on, paired ? back : ones, weight, begin, end, tap, total);
        const Span ahead = shared(wanted, after.begin, after.end);
        for (int c = 0; c < channels; ++c) {
            add_row(source(c, k), tap, ahead.begin, ahead.end, target(c));
        }
    }
    for (int c = 0; c < channels; ++c) divide_row(room.total.data(), begin, end, target(c));
}

// Slice by slice: along z into a buffer, from there along y, from there along x into the result.
void smooth_box(const float* volume, int channels, const float* edges, Grid grid, const Filter& f,
                int paired, const Box& box, float* result) {
    const int width = grid.width;
    const int64 voxels = voxels_of(grid);
    const int low = most(0, box.y_begin - f.y.radius);
    const int high = least(grid.height, box.y_end + f.y.radius);
    const Span inner = {box.x_begin, box.x_end};
    const Span outer = {most(0, box.x_begin - f.x.radius), least(width, box.x_end + f.x.radius)};
    std::vector<float> rows((size_t)(high - low) * channels * width);
    std::vector<float> row((size_t)channels * width);
    RowWeights room(width);
    const auto row_at = [&](int z, int y) {
        return Row{0, z, y, ((int64)z * grid.height + y) * width};
    };
    for (int z = box.z_begin; z < box.z_end; ++z) {
        for (int y = low; y < high; ++y) {
            const Row r = row_at(z, y);
            float* out = rows.data() + (int64)(y - low) * channels * width;
            mean_row(
                edges, grid, 0, r, outer, f.z, paired, channels, room,
                [&](int c, int k) {
                    return volume + c * voxels + r.begin + (int64)k * grid.height * width;
                },
                [&](int c) { return out + (int64)c * width; });
        }
        for (int y = box.y_begin; y < box.y_end; ++y) {
            const Row r = row_at(z, y);
            mean_row(
                edges, grid, 1, r, outer, f.y, paired, channels, room,
                [&](int c, int k) {
                    return rows.data() + ((int64)(y + k - low) * channels + c) * width;
                },
                [&](int c) { return row.data() + (int64)c * width; });
            mean_row(
                edges, grid, 2, r, inner, f.x, paired, channels, room,
                [&](int c, int k) { return row.data() + (int64)c * width + k; },
                [&](int c) { return result + c * voxels + r.begin; });
        }
    }
}

// How each voxel of a row is coupled with the next on an axis.
SEGREG_CLONES
void couple_row_ends(const int* SEGREG_RESTRICT words, const float* SEGREG_RESTRICT u, int64 voxels,
                   const Shifted& s, Vector unit, float slip, int width,
                   float* SEGREG_RESTRICT edges) {
    for (int x = s.end; x < width; ++x) edges[x] = 0.0f;
    SEGREG_SIMD
    for (int x = s.begin; x < s.end; ++x) {
        const Vector jump = make_vector((u[x + s.step] - u[x]) * unit.z,
                                        (u[voxels + x + s.step] - u[voxels + x]) * unit.y,
                                        (u[2 * voxels + x + s.step] - u[2 * voxels + x]) * unit.x);
        const bool same = own_region(words[x]) == own_region(words[x + s.step]);
        edges[x] = coupling(same, squared_length(jump), slip);
    }
}

// `nearest_border` of a row, one neighbour after the other.
SEGREG_CLONES
void border_row(const int* SEGREG_RESTRICT words, const float* SEGREG_RESTRICT squares,
                const Shifted& s, float away, const int* SEGREG_RESTRICT own,
                float* SEGREG_RESTRICT best, int* SEGREG_RESTRICT best_other) {
    const float* there = squares ? squares + s.step : nullptr;
    SEGREG_SIMD
    for (int x = s.begin; x < s.end; ++x) {
        const int word = words[x + s.step], region = own_region(word);
        const Border b = border_through(region == own[x], region, there ? there[x] : NOWHERE,
                                        other_region(word), away);
        const bool nearer = b.square < best[x];
        best[x] = nearer ? b.square : best[x];
        best_other[x] = nearer ? b.other : best_other[x];
    }
}

}  // namespace

void smooth_within(int64 size, const float* volume, const float* edges, int depth, int height,
                   int width, const float* weights, int radius_z, int radius_y, int radius_x,
                   int paired, const unsigned char* marks, float* result) {
    const Grid grid = {depth, height, width};
    const Filter f = make_filter(weights, radius_z, radius_y, radius_x, 0);
    const int channels = (int)(size / voxels_of(grid));
    if (marks) {
        for_marked_blocks(marks, grid, [&](const Box& box) {
            smooth_box(volume, channels, edges, grid, f, paired, box, result);
        });
        return;
    }
    const int along_y = (height + ROWS - 1) / ROWS;
    const int along_z = (depth + SLICES - 1) / SLICES;
    parallel_ranges((int64)along_z * along_y, 1, [&](int64 piece, int64) {
        const int z = (int)(piece / along_y) * SLICES, y = (int)(piece % along_y) * ROWS;
        const Box box = {z, least(depth, z + SLICES), y, least(height, y + ROWS), 0, width};
        smooth_box(volume, channels, edges, grid, f, paired, box, result);
    });
}

void couple(int64 size, const int* words, const float* displacement, int depth, int height,
            int width, float unit_z, float unit_y, float unit_x, float slip, float* edges) {
    const Grid grid = {depth, height, width};
    const Vector unit = make_vector(unit_z, unit_y, unit_x);
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            for (int axis = 0; axis < 3; ++axis) {
                couple_row_ends(words + r.begin, displacement + r.begin, size,
                                shifted_row(grid, axis, r, 1), unit, slip, width,
                                edges + axis * size + r.begin);
            }
        }
    });
}

void border_axis(int64 size, const int* words, const float* squares, int depth, int height,
                 int width, int axis, float step, int radius, float farthest, int last,
                 int* next_words, float* next) {
    const Grid grid = {depth, height, width};
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        std::vector<int> own(width), other(width);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            const int* here = words + r.begin;
            float* best = next + r.begin;
            for (int x = 0; x < width; ++x) own[x] = own_region(here[x]);
            other = own;
            std::fill_n(best, width, farthest * farthest);
            for (int k = -radius; k <= radius; ++k) {
                border_row(here, squares ? squares + r.begin : nullptr,
                           shifted_row(grid, axis, r, k), to_box(k, step), own.data(), best,
                           other.data());
            }
            for (int x = 0; x < width; ++x) {
                next_words[r.begin + x] = word_of(own[x], other[x]);
                if (last) best[x] = sqrtf(best[x]);
            }
        }
    });
}

}  // namespace segreg
