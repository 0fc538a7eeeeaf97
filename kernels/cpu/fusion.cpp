#include "fusion.cuh"

#include "kernels.hpp"
#include "launch.hpp"
#include "rows.hpp"

namespace segreg {
namespace {

// A region whose map may reach into the row.
struct Candidate {
    int region;
    CellRows rows;
    bool known;                    // whether what follows is that of this row
    std::vector<float> distances;  // of its columns
    Span near;                     // voxels that may be within the region's farthest reach
};

// What all rows share.
struct Fusion {
    Grid grid;
    std::vector<RegionMap> maps;
    RegionMap background;
    const float *falloff, *reach;
    std::vector<float> farthest;  // of falloff and reach, per region
    int words;
    const int* candidates;
};

// A row of the fixed grid and the buffers to build its map in.
struct FusionRow {
    int z, y;
    float* displacement[3];
    float* region[3];  // one region's feathered map
    std::vector<Candidate> candidates;
    size_t count;  // of the candidates, those of this row
    std::vector<float> cells[3], buffer, distances, weights, total, shares;
};

// Cells of the row's columns.
SEGREG_CLONES
void mix_rows(const float* volume, const CellRows& rows, Span columns,
              float* SEGREG_RESTRICT cells) {
    const CellRows c = rows;
    SEGREG_SIMD
    for (int x = columns.begin; x < columns.end; ++x) cells[x] = on_rows(volume, c, x);
}

SEGREG_CLONES
void mix_field_rows(const float* field, int64 voxels, const CellRows& rows, Span columns,
                    float* SEGREG_RESTRICT uz, float* SEGREG_RESTRICT uy,
                    float* SEGREG_RESTRICT ux) {
    const CellRows c = rows;
    SEGREG_SIMD
    for (int x = columns.begin; x < columns.end; ++x) {
        uz[x] = on_rows(field, c, x);
        uy[x] = on_rows(field + voxels, c, x);
        ux[x] = on_rows(field + 2 * voxels, c, x);
    }
}

// The columns that a span of voxels lies between.
Span columns_of(const RegionMap& map, Span span) {
    const Neighbours a = neighbours(cell_along(map, (float)span.begin), map.grid.width);
    const Neighbours b = neighbours(cell_along(map, (float)(span.end - 1)), map.grid.width);
    return {std::min(a.low, b.low), std::max(a.high, b.high) + 1};
}

SEGREG_BODY Vector displacement_at(const RegionMap& map, const CellRows& c, Vector voxel,
                                   const float* uz, const float* uy, const float* ux) {
    const Neighbours n = neighbours(cell_along(map, voxel.x), map.grid.width);
    const Vector u = make_vector(mix(uz[n.low], uz[n.high], n.fraction),
                                 mix(uy[n.low], uy[n.high], n.fraction),
                                 mix(ux[n.low], ux[n.high], n.fraction));
    return mapped_displacement(map, c, voxel, u);
}

SEGREG_CLONES
void write_span(const RegionMap& region, const CellRows& rows, int z, int y, Span span,
                const float* uz, const float* uy, const float* ux, float* SEGREG_RESTRICT dz,
                float* SEGREG_RESTRICT dy, float* SEGREG_RESTRICT dx) {
    const RegionMap map = region;
    const CellRows c = rows;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const Vector voxel = make_vector((float)z, (float)y, (float)x);
        const Vector d = displacement_at(map, c, voxel, uz, uy, ux);
        dz[x] = d.z;
        dy[x] = d.y;
        dx[x] = d.x;
    }
}

// Adds a weighted displacement, and its weight to the total.
SEGREG_CLONES
void add_span(const RegionMap& region, const CellRows& rows, int z, int y, Span span,
              const float* uz, const float* uy, const float* ux,
              const float* SEGREG_RESTRICT weights, float* SEGREG_RESTRICT total,
              float* SEGREG_RESTRICT dz, float* SEGREG_RESTRICT dy, float* SEGREG_RESTRICT dx) {
    const RegionMap map = region;
    const CellRows c = rows;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const Vector voxel = make_vector((float)z, (float)y, (float)x);
        const Vector d = displacement_at(map, c, voxel, uz, uy, ux);
        const float w = weights[x];
        total[x] += w;
        dz[x] += w * d.z;
        dy[x] += w * d.y;
        dx[x] += w * d.x;
    }
}

SEGREG_CLONES
void distance_span(const RegionMap& region, const CellRows& rows, const float* cells, Span span,
                   float* SEGREG_RESTRICT distances) {
    const RegionMap map = region;
    const CellRows c = rows;
    SEGREG_SIMD
    for (int x = span.begin; x < span.end; ++x) {
        const Neighbours n = neighbours(cell_along(map, (float)x), map.grid.width);
        const float distance = mix(cells[n.low], cells[n.high], n.fraction);
        distances[x] = distance_beyond(map, c, distance, (float)x);
    }
}

SEGREG_CLONES
void shepard_span(Span span, const float* SEGREG_RESTRICT distances, float falloff,
                  float* SEGREG_RESTRICT weights) {
    for (int x = span.begin; x < span.end; ++x) weights[x] = shepard_weight(distances[x], falloff);
}

SEGREG_CLONES
void feather_span(Span span, const float* SEGREG_RESTRICT distances, float reach,
                  float* SEGREG_RESTRICT weights) {
    for (int x = span.begin; x < span.end; ++x) weights[x] = feather(distances[x], reach);
}

SEGREG_CLONES
void divide_span(Span span, const float* SEGREG_RESTRICT total, float* SEGREG_RESTRICT values) {
    for (int x = span.begin; x < span.end; ++x) values[x] /= total[x];
}

SEGREG_CLONES
void add_scaled_span(Span span, const float* SEGREG_RESTRICT shares,
                     const float* SEGREG_RESTRICT values, float* SEGREG_RESTRICT sum) {
    for (int x = span.begin; x < span.end; ++x) sum[x] += shares[x] * values[x];
}

// Cells of a map's displacement under a span of the row.
void load_cells(FusionRow& row, const RegionMap& map, const CellRows& rows, Span span) {
    const Span columns = columns_of(map, span);
    mix_field_rows(map.field, voxels_of(map.grid), rows, columns, row.cells[0].data(),
                   row.cells[1].data(), row.cells[2].data());
}

void write_map(FusionRow& row, const RegionMap& map, const CellRows& rows, Span span,
               float* const* out) {
    load_cells(row, map, rows, span);
    write_span(map, rows, row.z, row.y, span, row.cells[0].data(), row.cells[1].data(),
               row.cells[2].data(), out[0], out[1], out[2]);
}

void add_map(FusionRow& row, const RegionMap& map, const CellRows& rows, Span span,
             float* const* out, float* total) {
    load_cells(row, map, rows, span);
    add_span(map, rows, row.z, row.y, span, row.cells[0].data(), row.cells[1].data(),
             row.cells[2].data(), row.weights.data(), total, out[0], out[1], out[2]);
}

// The voxels of a row, of those before `width`, that may be nearer to a region than `reach`.
Span reached_voxels(const RegionMap& map, const CellRows& rows, const float* cells, float reach,
                    int width) {
    int first = 0, last = map.grid.width - 1;
    while (first <= last && !(cells[first] < reach)) ++first;
    while (first <= last && !(cells[last] < reach)) --last;
    if (first > last || !(rows.beyond < reach)) return {0, 0};
    const float room = sqrtf(reach * reach - rows.beyond * rows.beyond) / map.spacing.x;
    const float end = (float)(map.grid.width - 1);
    const float low = first > 0 ? (float)(first - 1) : -room;
    const float high = (float)last < end ? (float)(last + 1) : end + room;
    const float a = (low - map.offset.x) / map.scale.x, b = (high - map.offset.x) / map.scale.x;
    // One voxel of slack against rounding: the weight decides, this only saves time.
    return {(int)clamp(floorf(std::min(a, b)) - 1.0f, 0.0f, (float)width),
            (int)clamp(ceilf(std::max(a, b)) + 2.0f, 0.0f, (float)width)};
}

// The part of a span in which the candidate is nearer than `reach`, and its distances there.
Span find_near(const Fusion& f, Candidate& candidate, float reach, Span span, float* distances) {
    const RegionMap& map = f.maps[candidate.region];
    if (!candidate.known) {
        candidate.distances.resize(map.grid.width);
        mix_rows(map.distances, candidate.rows, {0, map.grid.width}, candidate.distances.data());
        candidate.near = reached_voxels(map, candidate.rows, candidate.distances.data(),
                                        f.farthest[candidate.region], f.grid.width);
        candidate.known = true;
    }
    Span near = {most(span.begin, candidate.near.begin), least(span.end, candidate.near.end)};
    if (near.begin >= near.end) return near;
    distance_span(map, candidate.rows, candidate.distances.data(), near, distances);
    while (near.begin < near.end && !(distances[near.begin] < reach)) ++near.begin;
    while (near.begin < near.end && !(distances[near.end - 1] < reach)) --near.end;
    return near;
}

// A region's map feathered into its partners', over a span.
void write_feathered(FusionRow& row, const Fusion& f, int region, const CellRows& rows, Span span,
                     float* const* out) {
    write_map(row, f.maps[region], rows, span, out);
    if (!f.reach) return;
    float* total = row.total.data();
    bool feathered = false;
    for (size_t i = 0; i < row.count; ++i) {
        Candidate& partner = row.candidates[i];
        const float reach = f.reach[(int64)region * f.maps.size() + partner.region];
        if (partner.region == region || !(reach > 0.0f)) continue;
        const Span near = find_near(f, partner, reach, span, row.distances.data());
        if (near.begin >= near.end) continue;
        if (!feathered) std::fill(total + span.begin, total + span.end, 1.0f);
        feathered = true;
        feather_span(near, row.distances.data(), reach, row.weights.data());
        add_map(row, f.maps[partner.region], partner.rows, near, out, total);
    }
    for (int c = 0; feathered && c < 3; ++c) divide_span(span, total, out[c]);
}

// The background's map and those of the regions nearby, over a span.
void write_background(FusionRow& row, const Fusion& f, Span span) {
    float* const* u = row.displacement;
    write_map(row, f.background, cell_rows(f.background, (float)row.z, (float)row.y), span, u);
    float* shares = row.shares.data();
    bool blended = false;
    for (size_t i = 0; i < row.count; ++i) {
        Candidate& candidate = row.candidates[i];
        const int region = candidate.region;
        const float falloff = f.falloff[region];
        const Span near = find_near(f, candidate, falloff, span, row.distances.data());
        if (near.begin >= near.end) continue;
        if (!blended) std::fill(shares + span.begin, shares + span.end, 1.0f);
        blended = true;
        shepard_span(near, row.distances.data(), falloff, row.weights.data());
        if (!f.reach) {
            add_map(row, f.maps[region], candidate.rows, near, u, shares);
            continue;
        }
        std::copy_n(row.weights.data() + near.begin, near.end - near.begin,
                    row.buffer.data() + near.begin);
        write_feathered(row, f, region, candidate.rows, near, row.region);
        for (int c = 0; c < 3; ++c) {
            add_scaled_span(near, row.buffer.data(), row.region[c], u[c]);
        }
        for (int x = near.begin; x < near.end; ++x) shares[x] += row.buffer[x];
    }
    for (int c = 0; blended && c < 3; ++c) divide_span(span, shares, u[c]);
}

void find_row_candidates(FusionRow& row, const Fusion& f) {
    const int* bits = f.candidates + ((int64)row.z * f.grid.height + row.y) * f.words;
    row.count = 0;
    for (int word = 0; word < f.words; ++word) {
        for (unsigned left = (unsigned)bits[word]; left; left &= left - 1) {
            if (row.count == row.candidates.size()) row.candidates.emplace_back();
            Candidate& candidate = row.candidates[row.count++];
            candidate.region = 32 * word + lowest_bit(left);
            candidate.rows = cell_rows(f.maps[candidate.region], (float)row.z, (float)row.y);
            candidate.known = false;
        }
    }
}

// Where the run of equal numbers that begins at `x` ends.
int end_of_run(const int* regions, int x, int width) {
    const int region = regions[x];
    for (; x + 16 <= width; x += 16) {
        int differs = 0;
        for (int i = 0; i < 16; ++i) differs |= regions[x + i] ^ region;
        if (differs) break;
    }
    while (x < width && regions[x] == region) ++x;
    return x;
}

// A row run by run of voxels of one region.
void fuse_row(FusionRow& row, const Fusion& f, const int* regions) {
    find_row_candidates(row, f);
    for (Span span = {0, 0}; span.begin < f.grid.width; span.begin = span.end) {
        const int region = regions[span.begin];
        span.end = end_of_run(regions, span.begin, f.grid.width);
        if (region > 0 && region <= (int)f.maps.size()) {
            const CellRows rows = cell_rows(f.maps[region - 1], (float)row.z, (float)row.y);
            write_feathered(row, f, region - 1, rows, span, row.displacement);
        } else {
            write_background(row, f, span);
        }
    }
}

FusionRow make_row(const Fusion& f) {
    FusionRow row;
    const size_t width = f.grid.width;
    const size_t cells = std::max(f.maps[0].grid.width, f.background.grid.width);
    for (auto& component : row.cells) component.resize(cells);
    for (auto* part : {&row.distances, &row.weights, &row.total, &row.shares}) part->resize(width);
    row.buffer.resize(4 * width);
    for (int c = 0; c < 3; ++c) row.region[c] = row.buffer.data() + (c + 1) * width;
    return row;
}

}  // namespace

void least_of_rows(int64 size, const float* distances, int width, float* least) {
    parallel_ranges(size, rows_for(width), [&](int64 begin, int64 end) {
        for (int64 row = begin; row < end; ++row) {
            least[row] = least_of_row(distances + row * width, width);
        }
    });
}

void find_candidates(int64 size, int height, const float* least, int count, int field_depth,
                     int field_height, const float* to_field, const float* to_voxel,
                     const float* spacing, const float* farthest, int words, int* candidates) {
    const Grid shadow = {field_depth, field_height, 1};
    parallel_ranges(size, 256, [&](int64 begin, int64 end) {
        std::fill(candidates + begin * words, candidates + end * words, 0);
        for (int k = 0; k < count; ++k) {
            const RegionMap map = region_map(k, least, least, shadow, to_field, to_voxel, spacing);
            for (int64 row = begin; row < end; ++row) {
                const float z = (float)(row / height), y = (float)(row % height);
                // Most slices, and of others most rows, are out of the canvas's reach.
                const float cz = map.scale.z * z + map.offset.z;
                const float cy = map.scale.y * y + map.offset.y;
                if (!(excess(cz, field_depth, map.spacing.z) < farthest[k])) {
                    row += height - 1 - row % height;
                } else if (excess(cy, field_height, map.spacing.y) < farthest[k] &&
                           row_reaches(map, z, y, farthest[k])) {
                    candidates[row * words + k / 32] |= (int)(1u << (k % 32));
                }
            }
        }
    });
}

void fuse_fields(int64 size, const int* regions, int depth, int height, int width,
                 const float* fields, const float* distances, int count, int field_depth,
                 int field_height, int field_width, const float* to_field, const float* to_voxel,
                 const float* spacing, const float* background, int background_depth,
                 int background_height, int background_width, const float* background_to_field,
                 const float* background_to_voxel, const float* falloff, const float* reach,
                 int words, const int* candidates, float* displacement) {
    const Grid grid = {depth, height, width};
    const Grid cells = {field_depth, field_height, field_width};
    const Grid coarse = {background_depth, background_height, background_width};
    Fusion fusion = {grid, {}, {}, falloff, reach, {}, words, candidates};
    fusion.background =
        background_map(background, coarse, background_to_field, background_to_voxel);
    for (int k = 0; k < count; ++k) {
        fusion.maps.push_back(
            region_map(k, fields, distances, cells, to_field, to_voxel, spacing));
        const float* row = reach + (int64)k * count;
        fusion.farthest.push_back(
            reach ? std::max(falloff[k], *std::max_element(row, row + count)) : falloff[k]);
    }
    const int64 voxels = voxels_of(grid);
    parallel_ranges(size / width, rows_for(width), [&](int64 begin, int64 end) {
        FusionRow row = make_row(fusion);
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(i, grid);
            row.z = r.z;
            row.y = r.y;
            for (int c = 0; c < 3; ++c) row.displacement[c] = displacement + c * voxels + r.begin;
            fuse_row(row, fusion, regions + r.begin);
        }
    });
}

}  // namespace segreg
