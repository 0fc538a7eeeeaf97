// Labels at a position: the linear vote, and counting pairs of labels along a row.
#pragma once

#include "interpolation.cuh"

namespace segreg {

// Of eight labels at the corners of a cell (x runs fastest) the one with the largest trilinear
// weight at the fractions z, y, x; of equals the smaller. Without branches: the host vectorises it.
template <typename Label>
SEGREG_BODY Label winner(const Label label[8], float z, float y, float x) {
    const float rows[4] = {(1.0f - z) * (1.0f - y), (1.0f - z) * y, z * (1.0f - y), z * y};
    float weight[8];
    SEGREG_UNROLL
    for (int i = 0; i < 8; ++i) weight[i] = rows[i / 2] * (i & 1 ? x : 1.0f - x);
    Label best = label[0];
    float most_votes = -1.0f;
    SEGREG_UNROLL
    for (int i = 0; i < 8; ++i) {
        float votes = 0.0f;
        SEGREG_UNROLL
        for (int j = 0; j < 8; ++j) votes += label[j] == label[i] ? weight[j] : 0.0f;
        const bool wins = (votes > most_votes) | ((votes == most_votes) & (label[i] < best));
        most_votes = wins ? votes : most_votes;
        best = wins ? label[i] : best;
    }
    return best;
}

// The label with the largest trilinear weight; of equals the smaller label.
template <typename Label>
SEGREG_BODY Label vote(const Label* labels, Grid grid, Vector p) {
    const Corners c = corners(grid, p);
    const Label label[8] = {
        labels[c.row00 + c.x.low], labels[c.row00 + c.x.high], labels[c.row01 + c.x.low],
        labels[c.row01 + c.x.high], labels[c.row10 + c.x.low], labels[c.row10 + c.x.high],
        labels[c.row11 + c.x.low], labels[c.row11 + c.x.high]};
    return winner(label, c.z.fraction, c.y.fraction, c.x.fraction);
}

template <typename Label>
SEGREG_BODY Label label_at(const Label* labels, Grid grid, Vector p, int nearest) {
    if (!lies_inside(grid, p)) return 0;
    return nearest ? labels[nearest_index(grid, p)] : vote(labels, grid, p);
}

// Adds `amount` to a counter that other CUDA threads may hold at the same moment. Integers, so
// the order does not matter. The CPU gives every range its own counters.
SEGREG_BODY void tally(int64* counter, int64 amount) {
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
    atomicAdd((unsigned long long*)counter, (unsigned long long)amount);
#else
    *counter += amount;
#endif
}

// Counts pairs (fixed, warped) of labels into table[fixed * (count + 1) + warped], equal
// neighbours together. A pair with a label outside 0..count goes to the entry after the last.
struct Pairs {
    int count;
    int64* table;
    int current;
    int64 run;
};

SEGREG_BODY void finish(Pairs& pairs) {
    if (pairs.run) tally(pairs.table + pairs.current, pairs.run);
    pairs.run = 0;
}

SEGREG_BODY void count_pair(Pairs& pairs, int fixed, int warped) {
    const int size = pairs.count + 1;
    const bool known = fixed >= 0 && fixed < size && warped >= 0 && warped < size;
    const int entry = known ? fixed * size + warped : size * size;
    if (entry != pairs.current) {
        finish(pairs);
        pairs.current = entry;
    }
    ++pairs.run;
}

// The number a label is replaced by: its entry in the table, 0 beyond it.
template <typename Label>
SEGREG_BODY int relabelled(Label label, const int* table, int size) {
    const bool known = (label >= 0) & ((int)label < size);
    const int entry = table[known ? (int)label : 0];
    return known ? entry : 0;
}

}  // namespace segreg
