// Stopping early: how far from optimal the caller accepts, and completing a matching that is near enough.
#pragma once

#include "assignment/cuda/repair.cuh"

namespace loomfast::cuda {

constexpr int kMostSettled = 32;  // free rows that may be matched without looking for paths: a column a lane

// Board::allowed = tolerance * sum_i (mean_j c_ij - min_j c_ij) in units of 2^unit, rounded down; 0 where every
// solve is exact.
template <class Team, class T>
__device__ void find_allowed_gap(Rounds<Team>& rounds, const Instance<T>& instance) {
    const bool exact = instance.tolerance <= 0.0 || !instance.square() || instance.has_dummies();
    if (rounds.team.leads()) {
        rounds.board->spreads = 0;
        rounds.board->allowed = 0.0;
    }
    rounds.meet();
    if (exact) {
        return;
    }
    // Whole units add up the same in any order; fewer of them where the sum would not fit.
    const int spare = rounds.board->top - instance.source.unit + instance.row_bits - 60;
    const int coarser = spare > 0 ? spare : 0;
    rounds.for_each_by_warps(instance.rows, [&](int row) {
        double sum = 0.0;
        Int least = kForbidden;
        unsigned count = 0;
        for_costs<Team, WarpCrew>(instance.source, row, [&](int, Int c) {
            least = c < least ? c : least;
            sum += static_cast<double>(c);
            ++count;
        });
        for (int flip = 16; flip; flip >>= 1) {
            sum += __shfl_xor_sync(kWarp, sum, flip);
        }
        least = warp_min(least);
        count = warp_sum(count);
        if (lane_id() == 0 && count > 0) {
            const double spread = ldexp(sum / count - static_cast<double>(least), -coarser);
            atomicAdd(&rounds.board->spreads, static_cast<Word>(spread > 0.0 ? spread : 0.0));
        }
    });
    rounds.meet();
    if (rounds.team.leads()) {
        const double total = ldexp(static_cast<double>(rounds.board->spreads), coarser);
        rounds.board->allowed = instance.tolerance * total * (1.0 - 1e-9);
    }
}

// Gives each free row, in order, the best free column that is left. Every other pair is tight, so the gap is
// what these pairs lose. Keeps them if that is allowed, and says so.
template <class Team, class T>
__device__ bool settle(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s, int list, int free_rows) {
    const auto free_columns = s.free_list(list);
    if (rounds.team.in_first_warp()) {
        const int lane = lane_id();
        const int column = lane < free_rows ? free_columns[lane] : -1;
        int partner = column < 0 ? instance.rows : -1;
        double loss = 0.0;
        for (int first = 0; first < instance.rows; first += 32) {
            unsigned left = __ballot_sync(kWarp, first + lane < instance.rows && s.x[first + lane] < 0);
            for (; left; left &= left - 1) {
                const int row = first + __ffs(static_cast<int>(left)) - 1;
                const Int c = partner < 0 ? stage_cost(instance, row, column, 0) : kForbidden;
                const Int reduced = c == kForbidden ? kForbidden : c + s.price(0)[column] - s.u[row];
                const Int best = warp_min(reduced);
                const Int chosen = warp_min(reduced == best && partner < 0 ? column : kForbidden);
                loss += best == kForbidden ? INFINITY : static_cast<double>(best);
                partner = chosen == column ? row : partner;
            }
        }
        __syncwarp();
        if (loss <= rounds.board->allowed) {
            if (column >= 0) {
                s.x[partner] = column;
                s.y[column] = partner;
            }
            if (lane == 0) {
                atomicOr(&rounds.board->flags, unsigned{kStoppedEarly});
                rounds.add(1);
            }
        }
    }
    return rounds.meet() != 0;
}

}  // namespace loomfast::cuda
