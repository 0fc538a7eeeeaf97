// Labels at a position: the linear vote, and counting pairs of labels along a row.
#pragma once

#include "interpolation.cuh"

namespace segreg {

// The label with the largest trilinear weight; of equals the smaller label.
template <typename Label>
SEGREG_BODY Label vote(const Label* labels, Grid grid, Vector p) {
    const Corners c = corners(grid, p);
    const Label label[8] = {
        labels[c.row00 + c.x.low], labels[c.row00 + c.x.high], labels[c.row01 + c.x.low],
        labels[c.row01 + c.x.high], labels[c.row10 + c.x.low], labels[c.row10 + c.x.high],
        labels[c.row11 + c.x.low], labels[c.row11 + c.x.high]};
    bool alike = true;
    for (int i = 1; i < 8; ++i) alike = alike & (label[i] == label[0]);
    if (alike) return label[0];

    float weight[8];
    for (int i = 0; i < 8; ++i) {
        const float z = i & 4 ? c.z.fraction : 1.0f - c.z.fraction;
        const float y = i & 2 ? c.y.fraction : 1.0f - c.y.fraction;
        const float x = i & 1 ? c.x.fraction : 1.0f - c.x.fraction;
        weight[i] = z * y * x;
    }
    Label best = label[0];
    float most_votes = -1.0f;
    for (int i = 0; i < 8; ++i) {
        float votes = 0.0f;
        for (int j = 0; j < 8; ++j) votes += label[j] == label[i] ? weight[j] : 0.0f;
        if (votes > most_votes || (votes == most_votes && label[i] < best)) {
            most_votes = votes;
            best = label[i];
        }
    }
    return best;
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

}  // namespace segreg
