// A warp an instance, for small ones: shortest augmenting paths (R. Jonker and A. Volgenant, "A shortest augmenting
// path algorithm for dense and sparse linear assignment problems", Computing 38, 1987) with the columns in registers.
//
// Lane l holds columns l * kHeld to l * kHeld + kHeld - 1: their prices, and during a search their labels, the rows
// that these came from, and whether they are done. Costs are in shared memory as the values that they are, signs for
// minimising, forbidden past the last column; all else is in integers of the unit that the costs fit into, as in the
// other kernels. Nothing waits for another warp. A start is not looked at, and a tolerance not used: to be exact takes
// no longer.
#pragma once

#include "assignment/cuda/prepare.cuh"
#include "assignment/cuda/certify.cuh"

namespace loomfast::cuda {

constexpr int kReductionsPerRow = 4;  // of augmenting row reduction: what is left takes paths

// The shared memory of a warp: costs, then the arrays of the rows, then the prices.
template <class T, int kHeld>
__host__ __device__ inline size_t warp_bytes(int64_t rows) {
    const size_t even = static_cast<size_t>(rows + 3) / 4 * 4;
    return even * (32 * kHeld * sizeof(T) + 2 * 8 + 4) + 32 * kHeld * 8;
}

template <class T, int kHeld>
struct WarpSolver {  // all inlined: what a lane holds are registers
    static constexpr int kWidth = 32 * kHeld;
    const Instance<T>& instance;
    T* costs;       // (rows, kWidth)
    Int* u;         // (rows,) duals of the rows; then what they pay
    double* slack;  // (rows,)
    double* price;  // (kWidth,)
    int* x;         // (rows,) columns
    T first, second;
    Int p[kHeld];   // prices of this lane's columns: the cost of column j to row i is c_ij + p_j
    int y[kHeld];   // rows of this lane's columns, or negative
    unsigned steps, bids, paths;

    __forceinline__ __device__ WarpSolver(const Instance<T>& of, unsigned char* memory)
        : instance(of), costs(reinterpret_cast<T*>(memory)), steps(0), bids(0), paths(0) {
        const int rows = (of.costs.rows + 3) / 4 * 4;
        u = reinterpret_cast<Int*>(memory + static_cast<size_t>(rows) * kWidth * sizeof(T));
        slack = reinterpret_cast<double*>(u + rows);
        price = slack + rows;
        x = reinterpret_cast<int*>(price + kWidth);
    }

    __forceinline__ __device__ int rows() const { return instance.costs.rows; }
    __forceinline__ __device__ int columns() const { return instance.costs.columns; }
    __forceinline__ __device__ bool square() const { return rows() == columns(); }
    __forceinline__ __device__ static int own(int k) { return lane_id() * kHeld + k; }

    // Costs into shared memory, and what survey() of the other kernels finds.
    __forceinline__ __device__ Bits load() const {
        Bits bits;
        for (int i = 0; i < rows(); ++i) {
            for (int j = lane_id(); j < kWidth; j += 32) {
                T value = INFINITY;
                if (j < columns()) {
                    bits.note(decode(instance.costs, i, j), instance.costs, instance.integers);
                    value = static_cast<T>(exact_cost(instance.costs, i, j));
                }
                costs[i * kWidth + j] = value;
            }
        }
        for (int flip = 16; flip; flip >>= 1) {
            bits.note(__shfl_xor_sync(kWarp, bits.top, flip), __shfl_xor_sync(kWarp, bits.low, flip));
            bits.flags |= __shfl_xor_sync(kWarp, bits.flags, flip);
        }
        __syncwarp();
        return bits;
    }

    __forceinline__ __device__ void load_row(int i, Int (&c)[kHeld]) const {
        const T* row = costs + i * kWidth + lane_id() * kHeld;
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            c[k] = Source<T>::fixed(row[k], first, second);
        }
    }

    // The value of one of a lane's columns.
    template <class Value>
    __forceinline__ __device__ static Value pick(const Value (&of)[kHeld], int k) {
        Value value = of[0];
#pragma unroll
        for (int other = 1; other < kHeld; ++other) {
            value = k == other ? of[other] : value;
        }
        return value;
    }

    // p_j = -min_i c_ij, where no column is to spare; each row keeps the lowest column that is cheapest with it.
    __forceinline__ __device__ void reduce_columns() {
        for (int i = lane_id(); i < rows(); i += 32) {
            x[i] = kWidth;
        }
        Int minimum[kHeld];
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            minimum[k] = kForbidden;
            p[k] = 0;
            y[k] = -1;
        }
        for (int i = 0; square() && i < rows(); ++i) {
            Int c[kHeld];
            load_row(i, c);
#pragma unroll
            for (int k = 0; k < kHeld; ++k) {
                y[k] = c[k] < minimum[k] ? i : y[k];
                minimum[k] = c[k] < minimum[k] ? c[k] : minimum[k];
            }
        }
        __syncwarp();
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            if (y[k] >= 0) {
                p[k] = -minimum[k];
                atomicMin(&x[y[k]], own(k));
            }
        }
        __syncwarp();
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            y[k] = y[k] >= 0 && x[y[k]] == own(k) ? y[k] : -1;
        }
        __syncwarp();
        for (int i = lane_id(); i < rows(); i += 32) {
            x[i] = x[i] == kWidth ? -1 : x[i];
        }
        __syncwarp();
    }

    // Augmenting row reduction: a free row takes its cheapest column and raises the price to that of the second; who
    // held the column is free. Ends for a row that finds a free column, or gives no reason to go on.
    __forceinline__ __device__ void reduce_row(int i, int& budget) {
        while (i >= 0 && budget-- > 0) {
            Int c[kHeld];
            load_row(i, c);
            Int one = kForbidden;
            Int two = kForbidden;
            int mine = 0;
#pragma unroll
            for (int k = 0; k < kHeld; ++k) {
                const Int reduced = c[k] == kForbidden ? kForbidden : c[k] + p[k];
                const bool better = reduced < one;
                two = better ? one : reduced < two ? reduced : two;
                one = better ? reduced : one;
                mine = better ? k : mine;
            }
            const Int best = warp_min(one);
            if (best == kForbidden) {
                return;  // the search for a path will say so
            }
            const int winner = __ffs(static_cast<int>(__ballot_sync(kWarp, one == best))) - 1;
            const Int next = warp_min(lane_id() == winner ? two : one);
            const int column = __shfl_sync(kWarp, mine, winner);
            const int held = __shfl_sync(kWarp, pick(y, mine), winner);
            if (held >= 0 && (next == best || next == kForbidden)) {
                return;
            }
            const bool raises = next != kForbidden && (held >= 0 || square());
            __syncwarp();
#pragma unroll
            for (int k = 0; k < kHeld; ++k) {
                if (lane_id() == winner && k == column) {
                    p[k] += raises ? next - best : 0;
                    y[k] = i;
                }
            }
            if (lane_id() == 0) {
                x[i] = winner * kHeld + column;
                if (held >= 0) {
                    x[held] = -1;
                }
            }
            __syncwarp();
            ++bids;
            i = held;
        }
    }

    // u_i = min_j(c_ij + p_j), of which the columns of all matched rows are examples.
    __forceinline__ __device__ void find_row_duals() const {
        for (int i = 0; i < rows(); ++i) {
            Int c[kHeld];
            load_row(i, c);
            Int mine = kForbidden;
#pragma unroll
            for (int k = 0; k < kHeld; ++k) {
                const Int reduced = c[k] == kForbidden ? kForbidden : c[k] + p[k];
                mine = reduced < mine ? reduced : mine;
            }
            mine = warp_min(mine);
            if (lane_id() == 0) {
                u[i] = mine == kForbidden ? 0 : mine;
            }
        }
        __syncwarp();
    }

    // Dijkstra's search from a free row to a free column over reduced costs, and the exchange along the path. False
    // where no column can be reached.
    __forceinline__ __device__ bool augment(int root) {
        Int label[kHeld];
        int from[kHeld];
        unsigned done = 0;
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            label[k] = kForbidden;
            from[k] = -1;
        }
        Int distance = 0;
        int row = root;
        int column = -1;
        while (column < 0) {
            ++steps;
            Int c[kHeld];
            load_row(row, c);
            const Int base = distance - u[row];
            Int mine = kForbidden;
#pragma unroll
            for (int k = 0; k < kHeld; ++k) {
                const bool open = !(done >> k & 1);
                const Int through = c[k] == kForbidden ? kForbidden : c[k] + p[k] + base;
                if (open && through < label[k]) {
                    label[k] = through;
                    from[k] = row;
                }
                mine = open && label[k] < mine ? label[k] : mine;
            }
            distance = warp_min(mine);
            if (distance >= kForbidden) {
                return false;
            }
            // Of the nearest columns a free one, if there is; the lowest of those.
            int nearest = -1;
            int free_one = -1;
#pragma unroll
            for (int k = kHeld - 1; k >= 0; --k) {
                if (!(done >> k & 1) && label[k] == distance) {
                    nearest = k;
                    free_one = y[k] < 0 ? k : free_one;
                }
            }
            const unsigned with_free = __ballot_sync(kWarp, free_one >= 0);
            const unsigned with_any = __ballot_sync(kWarp, nearest >= 0);
            const int lane = __ffs(static_cast<int>(with_free ? with_free : with_any)) - 1;
            const int chosen = with_free ? free_one : nearest;
            if (lane_id() == lane && !with_free) {
                done |= 1u << chosen;
            }
            const int k = __shfl_sync(kWarp, chosen, lane);
            row = __shfl_sync(kWarp, pick(y, chosen < 0 ? 0 : chosen), lane);
            column = with_free ? lane * kHeld + k : -1;
        }
        ++paths;
        __syncwarp();
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            if (done >> k & 1) {
                p[k] += distance - label[k];
                u[y[k]] += distance - label[k];
            }
        }
        if (lane_id() == 0) {
            u[root] += distance;
        }
        __syncwarp();
        for (int i = -1; i != root;) {
            i = __shfl_sync(kWarp, pick(from, column % kHeld), column / kHeld);
#pragma unroll
            for (int k = 0; k < kHeld; ++k) {
                y[k] = own(k) == column ? i : y[k];
            }
            const int released = x[i];
            __syncwarp();
            if (lane_id() == 0) {
                x[i] = column;
            }
            column = released;
        }
        __syncwarp();
        return true;
    }

    __forceinline__ __device__ Status solve(int unit) {
        Source<T>::split_unit(unit, &first, &second);
        reduce_columns();
        int budget = kReductionsPerRow * rows();
        for (int i = 0; i < rows(); ++i) {
            if (x[i] < 0) {
                reduce_row(i, budget);
            }
        }
        find_row_duals();
        for (int i = 0; i < rows(); ++i) {
            if (x[i] < 0 && !augment(i)) {
                return kInfeasible;
            }
        }
        Int highest = 0;
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            highest = own(k) < columns() && p[k] > highest ? p[k] : highest;
        }
        return warp_min(-highest) < -(Int{1} << 61) ? kOutOfRange : kOptimal;
    }

    // The largest double u <= min_j(c_ij + p_j) for each row, a row a lane; where a lane begins differs from its
    // neighbours', so that they read different banks.
    __forceinline__ __device__ void certify(int unit) const {
        const double sign = instance.costs.negate ? -1.0 : 1.0;
        Int cheapest = kForbidden;
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            cheapest = own(k) < columns() && p[k] < cheapest ? p[k] : cheapest;
        }
        const Int floor = square() ? warp_min(cheapest) : 0;
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
            const int j = own(k);
            price[j] = j < columns() ? ldexp(static_cast<double>(p[k] - floor), unit) : 0.0;
            if (j < columns()) {
                instance.column_dual[j] = price[j] == 0.0 ? 0.0 : -sign * price[j];
                instance.row_of_column[j] = y[k];
            }
        }
        __syncwarp();
        double* paid = reinterpret_cast<double*>(u);
        for (int i = lane_id(); i < rows(); i += 32) {
            const T* row = costs + i * kWidth;
            ExactSum least{INFINITY, 0.0};
            for (int turn = 0; turn < kWidth; ++turn) {
                const int j = (turn + lane_id()) % kWidth;
                const double c = row[j];
                const ExactSum reduced = two_sum(c, price[j]);
                least = c < INFINITY && is_less(reduced, least) ? reduced : least;
            }
            const double dual = least.rest < 0.0 ? next_below(least.sum) : least.sum;
            const double c = row[x[i]];
            const ExactSum mine = two_sum(c, price[x[i]]);
            slack[i] = (mine.sum - dual) + mine.rest;
            paid[i] = sign * c;
            instance.column_of_row[i] = x[i];
            instance.row_dual[i] = sign * dual;
        }
        __syncwarp();
        const double total = ordered_sum(paid, rows());
        const double gap = ordered_sum(slack, rows());
        if (lane_id() == 0) {
            *instance.total = total;
            *instance.gap = gap * (1.0 + 0x1p-40);
            *instance.status = kOptimal;
        }
    }

    __forceinline__ __device__ void count() const {
        if (lane_id() == 0) {
            for (int k = 0; k < kCounters; ++k) {
                instance.counters[k] = 0;
            }
            instance.counters[kBids] = bids;
            instance.counters[kForestPasses] = paths;
            instance.counters[kForestSteps] = instance.counters[kRowsRelaxed] = steps;
        }
    }
};

// A whole solve of a small instance by this warp, with its share of shared memory.
template <class T, int kHeld>
__device__ void solve_by_warp(const Instance<T>& instance, unsigned char* memory) {
    WarpSolver<T, kHeld> solver(instance, memory);
    const Bits bits = solver.load();
    Status status = bits.flags & kSawInvalid        ? kInvalidCost
                    : bits.flags & kSawLargeInteger ? kInexactIntegers
                                                    : kOptimal;
    const int unit = choose_unit(bits.top, bits.low);
    if (status == kOptimal) {
        status = solver.solve(unit);
    }
    if (status == kOptimal) {
        solver.certify(unit);
    } else {
        for (int i = lane_id(); i < instance.costs.rows; i += 32) {
            instance.column_of_row[i] = -1;
            instance.row_dual[i] = NAN;
        }
        for (int j = lane_id(); j < instance.costs.columns; j += 32) {
            instance.row_of_column[j] = -1;
            instance.column_dual[j] = NAN;
        }
        if (lane_id() == 0) {
            *instance.total = *instance.gap = NAN;
            *instance.status = status;
        }
    }
    solver.count();
}

}  // namespace loomfast::cuda
