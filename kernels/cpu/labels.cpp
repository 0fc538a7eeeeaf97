#include "labels.cuh"

#include <climits>

#include "ahead.hpp"
#include "kernels.hpp"
#include "memory.hpp"
#include "rows.hpp"
#include "way.hpp"

namespace segreg {
namespace {

// Stands for a cell whose corners differ. A real label of this number takes the same, longer way.
const int MIXED = INT_MIN;

// For each voxel of a row: the label that it and the next voxel share on all four rows, or MIXED.
SEGREG_CLONES
void shared_row(const int* row, const int* under, const int* behind, const int* across,
                const int* right, const int* under_right, const int* behind_right,
                const int* across_right, int count, int* SEGREG_RESTRICT shared) {
    SEGREG_SIMD
    for (int x = 0; x < count; ++x) {
        const int v = row[x];
        const bool alike = (under[x] == v) & (behind[x] == v) & (across[x] == v) &
                           (right[x] == v) & (under_right[x] == v) & (behind_right[x] == v) &
                           (across_right[x] == v);
        shared[x] = alike ? v : MIXED;
    }
}

// A label map, and for the vote what the cells between its voxels share: most cells lie inside
// one label, and need one look instead of eight.
struct LabelMap {
    const int* labels;
    Grid grid;
    Scratch<int> shared;

    LabelMap(const int* labels, Grid grid, bool nearest);
};

LabelMap::LabelMap(const int* labels, Grid grid, bool nearest)
    : labels(labels), grid(grid), shared(nearest ? 0 : (size_t)voxels_of(grid)) {
    if (nearest) return;
    parallel_ranges((int64)grid.depth * grid.height, rows_for(grid.width),
                    [&](int64 begin, int64 end) {
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            const int64 y = r.y < grid.height - 1 ? grid.width : 0;
            const int64 z = r.z < grid.depth - 1 ? (int64)grid.height * grid.width : 0;
            const int* row = labels + r.begin;
            int* out = shared.data() + r.begin;
            const int last = grid.width - 1;
            shared_row(row, row + y, row + z, row + y + z, row + 1, row + y + 1, row + z + 1,
                       row + y + z + 1, last, out);
            row += last;  // no voxel to its right
            shared_row(row, row + y, row + z, row + y + z, row, row + y, row + z, row + y + z, 1,
                       out + last);
        }
    });
}

SEGREG_CLONES
void nearest_row(const int* labels, Grid grid, const float* SEGREG_RESTRICT positions, int width,
                 int* SEGREG_RESTRICT warped) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        const int label = labels[nearest_index(grid, p)];
        warped[x] = lies_inside(grid, p) ? label : 0;
    }
}

SEGREG_CLONES
void shared_labels(const int* shared, Grid grid, const float* SEGREG_RESTRICT positions, int width,
                   int* SEGREG_RESTRICT warped) {
    SEGREG_SIMD
    for (int x = 0; x < width; ++x) {
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        const Corners c = corners(grid, p);
        const int label = shared[c.row00 + c.x.low];
        warped[x] = lies_inside(grid, p) ? label : 0;
    }
}

// The vote at some places of a row.
SEGREG_CLONES
void vote_places(const int* labels, Grid grid, const float* SEGREG_RESTRICT positions, int width,
                 const int* SEGREG_RESTRICT places, int count, int* SEGREG_RESTRICT votes) {
    SEGREG_SIMD
    for (int i = 0; i < count; ++i) {
        const int x = places[i];
        const Vector p = make_vector(positions[x], positions[width + x], positions[2 * width + x]);
        votes[i] = vote(labels, grid, p);
    }
}

// Buffers of one row.
struct LabelRow {
    std::vector<float> positions;
    std::vector<int> labels, places, votes;

    explicit LabelRow(int width)
        : positions((size_t)3 * width), labels(width), places(width), votes(width) {}
};

void sample_row(const LabelMap& map, bool nearest, LabelRow& row, int width, int* warped) {
    const float* positions = row.positions.data();
    if (nearest) {
        nearest_row(map.labels, map.grid, positions, width, warped);
        return;
    }
    shared_labels(map.shared.data(), map.grid, positions, width, warped);
    const int count = find_places(warped, MIXED, width, row.places.data());
    vote_places(map.labels, map.grid, positions, width, row.places.data(), count,
                row.votes.data());
    for (int i = 0; i < count; ++i) warped[row.places[i]] = row.votes[i];
}

// What rows [begin, end) look at most.
void fetch_labels(const LabelMap& map, bool nearest, const Way& way, int64 begin, int64 end) {
    fetch_ahead(nearest ? map.labels : map.shared.data(), map.grid, looked_at(way, begin, end),
                (end - begin) * way.fixed.width);
}

bool is_identity(const Affine& a) {
    const float identity[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    return std::equal(identity, identity + 12, a.m);
}

template <typename Label>
SEGREG_CLONES void relabel_range(const Label* SEGREG_RESTRICT labels, int64 count, const int* table,
                                 int table_size, int* SEGREG_RESTRICT regions) {
    SEGREG_SIMD
    for (int64 i = 0; i < count; ++i) regions[i] = relabelled(labels[i], table, table_size);
}

// Equal neighbours together: a label map is mostly runs.
template <typename Label>
void mark_range(const Label* labels, int64 count, int limit, unsigned char* seen) {
    for (int64 i = 0; i < count; ++i) {
        if (i && labels[i] == labels[i - 1]) continue;
        if (labels[i] >= 0 && (int)labels[i] < limit) seen[labels[i]] = 1;
    }
}

// Calls use(labels as the type of so many bytes).
template <typename Use>
void typed(const unsigned char* labels, int bytes, const Use& use) {
    if (bytes == 1) {
        use(labels);
    } else if (bytes == 2) {
        use(reinterpret_cast<const short*>(labels));
    } else {
        use(reinterpret_cast<const int*>(labels));
    }
}

const int64 LABELS_AT_A_TIME = 1 << 16;

}  // namespace

void relabel(int64 size, const unsigned char* labels, int bytes, const int* table, int table_size,
             int* regions) {
    typed(labels, bytes, [&](auto* typed_labels) {
        parallel_ranges(size, LABELS_AT_A_TIME, [&](int64 begin, int64 end) {
            relabel_range(typed_labels + begin, end - begin, table, table_size, regions + begin);
        });
    });
}

// Range number `i` of `tables` marks in its own table.
void mark_labels(int64 size, const unsigned char* labels, int bytes, int limit, int tables,
                 unsigned char* seen) {
    typed(labels, bytes, [&](auto* typed_labels) {
        parallel_ranges(tables, 1, [&](int64 table, int64) {
            const int64 begin = table * size / tables, end = (table + 1) * size / tables;
            mark_range(typed_labels + begin, end - begin, limit, seen + table * limit);
        });
    });
}

void warp_labels(int64 size, const int* labels, int moving_depth, int moving_height,
                 int moving_width, const float* displacement, int depth, int height, int width,
                 Affine affine, int nearest, int* warped) {
    const Way way = {{moving_depth, moving_height, moving_width},
                     {depth, height, width},
                     displacement,
                     affine};
    const LabelMap map(labels, way.moving, nearest != 0);
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        LabelRow row(width);
        fetch_labels(map, nearest != 0, way, begin, end);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, way.fixed);
            row_positions(way, displacement, r, row.positions.data());
            sample_row(map, nearest != 0, row, width, warped + r.begin);
        }
    });
}

// Range number `table` counts the rows from table * rows / tables on into its own table.
void overlap(int64 size, const int* moving, int moving_depth, int moving_height,
             int moving_width, const int* fixed, const float* displacement, int depth,
             int height, int width, Affine affine, int nearest, int count, int tables,
             int64* confusion) {
    const Way way = {{moving_depth, moving_height, moving_width},
                     {depth, height, width},
                     displacement,
                     affine};
    // As they lie: voxel on voxel, so nothing is sampled.
    const bool still = !displacement && is_identity(way.affine) && moving_depth == depth &&
                       moving_height == height && moving_width == width;
    const LabelMap map(moving, way.moving, still || nearest != 0);
    const int64 ahead = rows_for(width);
    const int64 entries = (int64)(count + 1) * (count + 1) + 1;
    parallel_ranges(tables, 1, [&](int64 table, int64) {
        LabelRow row(width);
        const int64 begin = table * size / tables, end = (table + 1) * size / tables;
        for (int64 i = begin; i < end; ++i) {
            if (!still && (i - begin) % ahead == 0) {
                fetch_labels(map, nearest != 0, way, i, std::min(end, i + ahead));
            }
            const Row r = row_of(i, way.fixed);
            const int* warped = still ? moving + r.begin : row.labels.data();
            if (!still) {
                row_positions(way, displacement, r, row.positions.data());
                sample_row(map, nearest != 0, row, width, row.labels.data());
            }
            Pairs pairs = {count, confusion + table * entries, 0, 0};
            for (int x = 0; x < width; ++x) count_pair(pairs, fixed[r.begin + x], warped[x]);
            finish(pairs);
        }
    });
}

}  // namespace segreg
