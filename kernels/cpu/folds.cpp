#include "folds.cuh"

#include <cstring>

#include "determinants.hpp"
#include "kernels.hpp"
#include "launch.hpp"

namespace segreg {
namespace {

// Few rows are worked on, and each little: larger pieces than elsewhere, so that the many rounds
// over the last folds do not wait for threads.
const int64 ROWS_TO_MARK = 256;
const int64 ROWS_TO_OPEN = 512;

SEGREG_CLONES
void add_marks(const unsigned char* SEGREG_RESTRICT marked, int width,
               unsigned char* SEGREG_RESTRICT near) {
    for (int x = 0; x < width; ++x) near[x] |= marked[x];
}

// `marked_nearby` of a whole row. The buffer has two cells of room on each side.
void mark_nearby(Marks marks, Grid grid, const Row& r, std::vector<unsigned char>& room) {
    room.assign((size_t)grid.width + 4, 0);
    const int64 first = r.batch * grid.depth * grid.height;
    for (int dz = -2; dz <= 2; ++dz) {
        if (r.z + dz < 0 || r.z + dz >= grid.depth) continue;
        const int rest = 2 - std::abs(dz);
        for (int dy = -rest; dy <= rest; ++dy) {
            if (r.y + dy < 0 || r.y + dy >= grid.height) continue;
            const int64 row = first + (r.z + dz) * grid.height + r.y + dy;
            if (!marks.rows[row]) continue;
            const int wide = rest - std::abs(dy);
            for (int dx = -wide; dx <= wide; ++dx) {
                add_marks(marks.voxels + row * grid.width, grid.width, room.data() + 2 + dx);
            }
        }
    }
}

SEGREG_CLONES
int fold_row(const float* field, Grid grid, const Row& r, float threshold,
             const unsigned char* near, float* SEGREG_RESTRICT determinants,
             unsigned char* SEGREG_RESTRICT folds) {
    determinant_row(field, grid, r.z, r.y, determinants);
    int any = 0;
    for (int x = 0; x < grid.width; ++x) {
        folds[x] = determinants[x] <= threshold;
        if (near) folds[x] &= near[x];
        any |= folds[x];
    }
    return any;
}

// The rows whose determinants are to be looked at: all, or those for which `rows_nearby` holds.
std::vector<int64> rows_to_mark(Marks worked, Grid grid, int64 total) {
    std::vector<unsigned char> near(total, worked.rows == nullptr);
    for (int64 row = 0; worked.rows && row < total; ++row) {
        if (!worked.rows[row]) continue;
        const Row r = row_of(row, grid);
        for (int dz = -2; dz <= 2; ++dz) {
            if (r.z + dz < 0 || r.z + dz >= grid.depth) continue;
            const int rest = 2 - std::abs(dz);
            const int low = most(-rest, -r.y), high = least(rest, grid.height - 1 - r.y);
            for (int dy = low; dy <= high; ++dy) near[row + dz * grid.height + dy] = 1;
        }
    }
    std::vector<int64> rows;
    for (int64 row = 0; row < total; ++row) {
        if (near[row]) rows.push_back(row);
    }
    return rows;
}

}  // namespace

void mark_folds(int64 size, const float* displacement, int depth, int height, int width,
                const unsigned char* worked, const unsigned char* worked_rows, float threshold,
                unsigned char* folds, unsigned char* rows) {
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const Marks marks = {worked, worked_rows};
    const std::vector<int64> near = rows_to_mark(marks, grid, size / width);
    parallel_ranges((int64)near.size(), ROWS_TO_MARK, [&](int64 begin, int64 end) {
        std::vector<float> determinants(width);
        std::vector<unsigned char> room;
        for (int64 i = begin; i < end; ++i) {
            const int64 row = near[i];
            const Row r = row_of(row, grid);
            if (worked) mark_nearby(marks, grid, r, room);
            rows[row] = fold_row(displacement + 3 * voxels * r.batch, grid, r, threshold,
                                 worked ? room.data() + 2 : nullptr, determinants.data(),
                                 folds + row * width);
        }
    });
}

void open_folds(int64 size, const unsigned char* folds, const unsigned char* rows, int depth,
                int height, int width, const float* freedom, const float* ease, float threshold,
                float target, float overstep, float longest, int phase, float* displacement) {
    const Grid grid = {depth, height, width};
    const int64 voxels = voxels_of(grid);
    const int each = (width + SEGREG_PHASES - 1) / SEGREG_PHASES;
    const Opening opening = {make_vector(ease[0], ease[1], ease[2]), threshold, target, overstep,
                             longest};
    std::vector<int64> marked;
    for (int64 row = 0; row < size / each; ++row) {
        if (rows[row]) marked.push_back(row);
    }
    parallel_ranges((int64)marked.size(), ROWS_TO_OPEN, [&](int64 begin, int64 end) {
        for (int64 i = begin; i < end; ++i) {
            const Row r = row_of(marked[i], grid);
            const unsigned char* fold = folds + marked[i] * width;
            const float* held = freedom ? freedom + voxels * r.batch : nullptr;
            for (int x = first_of_phase(r.z, r.y, phase); x < width; x += SEGREG_PHASES) {
                if (!fold[x]) continue;
                open_fold(displacement + 3 * voxels * r.batch, voxels, grid, held, r.z, r.y, x,
                          opening);
            }
        }
    });
}

}  // namespace segreg
