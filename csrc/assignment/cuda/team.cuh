// Who works on an instance, and how its threads meet.
//
// A Team is all the threads of one instance: a block (BlockTeam), some or all blocks of a cooperative grid (GridTeam),
// or a cluster of blocks (ClusterTeam). The solver is written once over teams: between two barriers every location is
// either only read, or written by one thread, or updated by integer atomics whose result does not depend on their
// order. That makes every result independent of the schedule. Functions meet before they read what others wrote
// and leave their own last writes unmet; the tests take out every barrier in turn and see a race reported.
//
// Where the arrays of an instance lie is the team's matter, too: in the block's shared memory, in the workspace, or
// spread over the shared memory of a cluster, of which every block holds every so-manieth quad of each array.
#pragma once

#include "assignment/cuda/costs.cuh"

namespace loomfast::cuda {

constexpr unsigned kWarp = 0xFFFFFFFFu;
constexpr int kLargestBlock = 512;
constexpr int kLargestWarps = kLargestBlock / 32;

// What a team shares besides its arrays.
struct Board {
    unsigned flags;                // of Flag
    int top, low;                  // exponents above the largest and of the lowest bit of any cost
    unsigned free_columns[2];      // lengths of the two free lists
    Word cut[3];                   // labels at or above it are dropped, see forest.cuh
    Word distance;
    Int cheapest;                  // price of a column, see certify.cuh
    Word spreads;                  // of the rows, summed, see tolerance.cuh
    double allowed;                // a gap that ends the search
    double spread[16], nearest[16];  // of the sampled rows, see prepare.cuh
};
enum Flag : unsigned {
    kSawInvalid = 1, kSawForbidden = 2, kLabelOverflow = 4, kSawLargeInteger = 8, kStoppedEarly = 16
};

// Two 64-bit values that are reduced together.
struct Pair {
    Word first, second;
};

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) & 31; }

template <class Merge>
__device__ Pair reduce_warp(Pair mine, Merge merge) {
    for (int flip = 16; flip; flip >>= 1) {
        mine = merge(mine, Pair{__shfl_xor_sync(kWarp, mine.first, flip), __shfl_xor_sync(kWarp, mine.second, flip)});
    }
    return mine;
}

__device__ inline Int warp_min(Int value) {
    const Word ordered = static_cast<Word>(value) ^ (Word{1} << 63);
    const unsigned high = warp_least(static_cast<unsigned>(ordered >> 32));
    const bool has = static_cast<unsigned>(ordered >> 32) == high;
    const unsigned low = warp_least(has ? static_cast<unsigned>(ordered) : ~0u);
    return static_cast<Int>((Word{high} << 32 | low) ^ (Word{1} << 63));
}

// What a block keeps for itself, whatever the number of functions that use it.
struct BlockBoard {
    unsigned tally[3];             // summed over the block between two barriers, see Rounds
    Meeting meeting;
    Int counters[kCounters];       // of the block with the team's first thread
    unsigned collected[kLargestWarps];  // by each crew, see list_candidates()
    int crew_bits;                 // a crew has 1 << crew_bits warps, see SquadCrew
    Pair of_warp[2][kLargestWarps];
};
__device__ inline BlockBoard* block_board() {
    LOOMFAST_SHARED(BlockBoard, board, );
    return &board;
}

// A Crew is the part of a team that scans one row together: a warp, or several of a block for long rows.
struct WarpCrew {
    __device__ static int member() { return lane_id(); }
    __device__ static int members() { return 32; }
    template <class Merge>
    __device__ static Pair reduce(Pair mine, Merge merge) {
        return reduce_warp(mine, merge);
    }
    __device__ static unsigned least(unsigned mine) { return warp_least(mine); }
    __device__ static Int least(Int mine) { return warp_min(mine); }
    // The least of two values, and of how many threads `mark` is true.
    __device__ static void least_two(unsigned* a, unsigned* b, int* marked, bool mark) {
        *a = warp_least(*a);
        *b = warp_least(*b);
        *marked = __popc(__ballot_sync(kWarp, mark));
    }
};

// Several warps of a block, 1 << block_board()->crew_bits: a block has one such crew or more.
struct SquadCrew {
    __device__ static int bits() { return block_board()->crew_bits; }
    __device__ static int warps() { return 1 << bits(); }
    __device__ static int member() { return static_cast<int>(threadIdx.x) & (members() - 1); }
    __device__ static int members() { return 32 << bits(); }
    // Of this crew in its block, and how many crews that has.
    __device__ static int number() { return static_cast<int>(threadIdx.x) >> (bits() + 5); }
    __device__ static int crews() { return static_cast<int>(blockDim.x) >> (bits() + 5); }
    __device__ static void meet_crew() { meet_threads(1 + number(), members()); }
    // What each warp of the crew brings, a value a lane; lanes that have no warp repeat the first one's.
    __device__ static Pair* of_crew(int which) { return block_board()->of_warp[which] + (number() << bits()); }
    __device__ static Pair& of_mine(int which) { return block_board()->of_warp[which][threadIdx.x >> 5]; }
    __device__ static bool has_warp() { return lane_id() < warps(); }

    // The sum over the crew.
    __device__ static unsigned total(unsigned mine) {
        mine = warp_sum(mine);
        if (lane_id() == 0) {
            of_mine(0).first = mine;
        }
        meet_crew();
        const unsigned all = warp_sum(has_warp() ? static_cast<unsigned>(of_crew(0)[lane_id()].first) : 0);
        meet_crew();
        return all;
    }
    // Every warp merges what the warps found. Only for merges that take the same value twice.
    template <class Merge>
    __device__ static Pair reduce(Pair mine, Merge merge) {
        mine = reduce_warp(mine, merge);
        if (lane_id() == 0) {
            of_mine(0) = mine;
        }
        meet_crew();
        Pair all = of_crew(0)[has_warp() ? lane_id() : 0];
        all = reduce_warp(all, merge);
        meet_crew();
        return all;
    }
    // With one barrier: least_two() must come before the next one, and there all meet.
    __device__ static unsigned least(unsigned mine) {
        mine = warp_least(mine);
        if (lane_id() == 0) {
            of_mine(0).first = mine;
        }
        meet_crew();
        return warp_least(static_cast<unsigned>(of_crew(0)[has_warp() ? lane_id() : 0].first));
    }
    __device__ static Int least(Int mine) {
        mine = warp_min(mine);
        if (lane_id() == 0) {
            of_mine(0).first = static_cast<Word>(mine);
        }
        meet_crew();
        const Int all = warp_min(static_cast<Int>(of_crew(0)[has_warp() ? lane_id() : 0].first));
        meet_crew();
        return all;
    }
    // To be called after least(unsigned), whose values nobody reads any more when all have come to this one's barrier.
    __device__ static void least_two(unsigned* a, unsigned* b, int* marked, bool mark) {
        const unsigned first = warp_least(*a);
        const unsigned second = warp_least(*b);
        const unsigned marks = __ballot_sync(kWarp, mark);
        if (lane_id() == 0) {
            of_mine(1) = {Word{first} << 32 | second, static_cast<Word>(__popc(marks))};
        }
        meet_crew();
        const Pair found = of_crew(1)[has_warp() ? lane_id() : 0];
        *a = warp_least(static_cast<unsigned>(found.first >> 32));
        *b = warp_least(static_cast<unsigned>(found.first));
        *marked = static_cast<int>(warp_sum(has_warp() ? static_cast<unsigned>(found.second) : 0));
    }
};

// A column in the auction is a word, price:32 | ~row:32.
constexpr int kRowField = 32;
__device__ inline unsigned bid_price(Word word) { return static_cast<unsigned>(word >> kRowField); }

// An array over the shared memory of a cluster of 1 << bits blocks: quad q is the (q >> bits)th of block q % 2^bits.
template <class Value>
struct Spread {
    Value* own;  // this block's part
    int bits;

    __device__ static Int place(Int k, int bits) { return (k >> (bits + 2)) * 4 + (k & 3); }
    __device__ static unsigned owner(Int k, int bits) { return static_cast<unsigned>(k >> 2) & ((1u << bits) - 1); }
    __device__ Value& operator[](Int k) const { return *map_shared(own + place(k, bits), owner(k, bits)); }
};

// Where a quad of an array begins, and the array so many entries further on.
template <class Value>
__device__ Value* quad_at(Value* array, int quad) { return array + static_cast<Int>(quad) * 4; }
template <class Value>
__device__ Value* quad_at(const Spread<Value>& array, int quad) { return &array[static_cast<Int>(quad) * 4]; }
template <class Value>
__device__ Value* moved(Value* array, Int by) { return array + by; }
template <class Value>
__device__ Spread<Value> moved(const Spread<Value>& array, Int by) { return {array.own + by, array.bits}; }
// The same memory as an array of other values of that size.
template <class To, class From>
__device__ To* seen_as(From* array) { return reinterpret_cast<To*>(array); }
template <class To, class From>
__device__ Spread<To> seen_as(const Spread<From>& array) { return {reinterpret_cast<To*>(array.own), array.bits}; }

// A team's threads and warps take work in turn: the one that begins at first() goes on by stride(), and that is the
// number of an item but in a cluster, where index() makes it that of an item whose arrays the block holds.

// What BlockTeam and GridTeam have in common: an array is a pointer.
struct PlainTeam {
    template <class Value>
    using Array = Value*;
    static constexpr bool kHoldsCosts = false;
    static constexpr bool kLists = false;
    __device__ static int index(int turn) { return turn; }
    __device__ static int place(int row) { return row; }  // of a row among those that the block scans
    __device__ static int spread_bits() { return 0; }
    __device__ static Board* of_leader(Board* board) { return board; }
    template <class Value>
    __device__ static Value* array(Value* at) { return at; }
    template <class Value>
    __device__ static Value* costs(Value* address) { return global(address); }
    // Where the values of an array are read by whole rows: where they are.
    template <class Value>
    __device__ static Value* staged(Value* array, int) { return array; }
    __device__ static Word* staged_prices(Word* words, int) { return words; }
};

struct BlockTeam : WarpCrew, PlainTeam {
    template <class Value>
    __device__ static Value* local(Value* of_state) { return of_block(of_state); }
    __device__ int first() const { return static_cast<int>(threadIdx.x); }
    __device__ int stride() const { return static_cast<int>(blockDim.x); }
    __device__ bool leads() const { return threadIdx.x == 0; }
    __device__ bool in_first_warp() const { return threadIdx.x < 32; }
    __device__ Word meet(BlockBoard* mine, unsigned tick) const {
        __syncthreads();
        return mine->tally[tick % 3];
    }
    __device__ void forget_last_barrier() const {}
    __device__ void leave(BlockBoard*, unsigned) const {}
};

// Some blocks of a cooperative launch. A team that solves one instance after the other takes turns with two barriers,
// and leaves the one of the last instance as new.
template <class Crew>
struct GridTeam : Crew, PlainTeam {
    static constexpr bool kLists = !std::is_same_v<Crew, WarpCrew>;
    GridBarrier* barriers;  // two
    int block, blocks;      // the number of this one, and of all
    int turn;               // of the instance

    template <class Value>
    __device__ static Value* local(Value* of_state) { return global(of_state); }
    // Neighbouring warps of a team are in different blocks, so that few busy rows use many multiprocessors.
    __device__ int first() const {
        const int warp = static_cast<int>(threadIdx.x) >> 5;
        return (warp * blocks + block) * 32 + lane_id();
    }
    __device__ int stride() const { return blocks * static_cast<int>(blockDim.x); }
    __device__ bool leads() const { return block == 0 && threadIdx.x == 0; }
    __device__ bool in_first_warp() const { return block == 0 && threadIdx.x < 32; }
    __device__ Word meet(BlockBoard* mine, unsigned tick) const {
        meet_team(barriers + (turn & 1), static_cast<unsigned>(blocks), tick, &mine->tally[tick % 3], &mine->meeting);
        return mine->meeting.sum;
    }
    // After the first barrier of an instance, when nobody is in those of the one before any more.
    __device__ void forget_last_barrier() const {
        if (leads()) {
            GridBarrier& last = barriers[(turn & 1) ^ 1];
            last.lines[0].ticket = last.lines[1].ticket = 0;
        }
    }
    // All are done with what they share.
    __device__ void leave(BlockBoard* mine, unsigned tick) const { meet(mine, tick); }
};

// A cluster of 1 << bits blocks. A block scans the rows whose quad it holds; it has their costs, as far as they are in
// shared memory, and copies what all rows are scanned against.
struct ClusterTeam : WarpCrew {
    template <class Value>
    using Array = Spread<Value>;
    static constexpr bool kHoldsCosts = true;
    static constexpr bool kLists = false;
    unsigned rank;
    int bits;
    unsigned char* stage;  // eight bytes a column

    __device__ int index(int turn) const { return ((turn >> 2 << bits) + static_cast<int>(rank)) * 4 + (turn & 3); }
    __device__ int place(int row) const { return static_cast<int>(Spread<int>::place(row, bits)); }
    __device__ int spread_bits() const { return bits; }
    __device__ static Board* of_leader(Board* board) { return map_shared(board, 0); }
    template <class Value>
    __device__ Spread<Value> array(Value* at) const { return {at, bits}; }
    template <class Value>
    __device__ static Value* costs(Value* address) { return address; }
    template <class Value>
    __device__ static Value* local(Value* of_stage) { return of_block(of_stage); }
    template <class Value>
    __device__ static Spread<Value> local(const Spread<Value>& array) { return array; }
    // Every thread of the block comes here, after a barrier and before the next.
    template <class Value>
    __device__ Value* staged(const Spread<Value>& array, int quads) const {
        Value* copy = reinterpret_cast<Value*>(stage);
        for (int quad = static_cast<int>(threadIdx.x); quad < quads; quad += static_cast<int>(blockDim.x)) {
            Value values[4];
            load4(quad_at(array, quad), values);
            store4(copy + quad * 4, values);
        }
        __syncthreads();
        return copy;
    }
    __device__ unsigned* staged_prices(const Spread<Word>& words, int quads) const {
        unsigned* copy = reinterpret_cast<unsigned*>(stage);
        for (int quad = static_cast<int>(threadIdx.x); quad < quads; quad += static_cast<int>(blockDim.x)) {
            Word word[4];
            load4(quad_at(words, quad), word);
            unsigned price[4];
            for (int k = 0; k < 4; ++k) {
                price[k] = bid_price(word[k]);
            }
            store4(copy + quad * 4, price);
        }
        __syncthreads();
        return copy;
    }
    __device__ int first() const { return static_cast<int>(threadIdx.x); }
    __device__ int stride() const { return static_cast<int>(blockDim.x); }
    __device__ bool leads() const { return rank == 0 && threadIdx.x == 0; }
    __device__ bool in_first_warp() const { return rank == 0 && threadIdx.x < 32; }
    // Every warp adds up by itself what the blocks bring.
    __device__ Word meet(BlockBoard* mine, unsigned tick) const {
        meet_cluster();
        const unsigned lane = static_cast<unsigned>(lane_id());
        const bool has = lane < 1u << bits;
        const unsigned part = *map_shared(&mine->tally[tick % 3], has ? lane : rank);
        return warp_sum(has ? part : 0);
    }
    __device__ void forget_last_barrier() const {}
    // Nobody goes while others may still read its shared memory.
    __device__ void leave(BlockBoard*, unsigned) const { meet_cluster(); }
};

// The team's barriers, counted, each with a sum over the team that all threads learn.
// Of a block's three tallies one is being summed, one was just read, and one is being cleared.
template <class Team>
struct Rounds {
    Team team;
    Board* board;
    BlockBoard* mine;
    unsigned tick;

    // One thread of a block empties what the block keeps; the first barrier comes before any sum.
    __device__ void begin() const {
        if (threadIdx.x == 0) {
            mine->tally[0] = mine->tally[1] = mine->tally[2] = 0;
            mine->meeting = {0, {0, 0}};
            for (int k = 0; k < kCounters; ++k) {
                mine->counters[k] = 0;
            }
        }
    }
    __device__ int slot(unsigned ahead) const { return static_cast<int>((tick + ahead) % 3); }
    __device__ void add(unsigned amount) const {
        if (amount) {
            atomicAdd(&mine->tally[slot(0)], amount);
        }
    }
    // Counts work for the caller's statistics.
    __device__ void count(Counter counter, Word amount) const {
        if (team.leads()) {
            mine->counters[counter] += static_cast<Int>(amount);
        }
    }
    __device__ Word meet() {
        const Word sum = team.meet(mine, tick);
        ++tick;
        if (threadIdx.x == 0) {
            mine->tally[slot(1)] = 0;
        }
        return sum;
    }
    template <class Body>
    __device__ void for_each(int count, Body body) const {
        int turn = team.first();
        for (int k; (k = team.index(turn)) < count; turn += team.stride()) {
            body(k);
        }
    }
    // The same with a warp for each.
    template <class Body>
    __device__ void for_each_by_warps(int count, Body body) const {
        int turn = team.first() >> 5;
        for (int k; (k = team.index(turn)) < count; turn += team.stride() >> 5) {
            body(k);
        }
    }
};

// Runs body(row, payload, owner) by whole crews for the rows that wants(row, &payload) selects. Each row
// belongs to one thread (owner), the only one that may write the row's state.
template <class Team, class Wants, class Body>
__device__ void rows_by_warps(const Team& team, int rows, Wants wants, Body body) {
    const int warps = team.stride() >> 5;
    for (int turn = team.first() >> 5; team.index(turn) < rows; turn += warps * 32) {
        const int mine = team.index(turn + lane_id() * warps);
        Word payload = 0;
        const bool wanted = mine < rows && wants(mine, &payload);
        unsigned left = __ballot_sync(kWarp, wanted);
        while (left) {
            const int source = __ffs(static_cast<int>(left)) - 1;
            left &= left - 1;
            body(team.index(turn + source * warps), __shfl_sync(kWarp, payload, source), lane_id() == source);
        }
    }
}

// One list a block, whatever the number of functions that use it.
struct RowList {
    struct Entry {
        Word payload;
        int row;
    } entries[kLargestBlock];
    int length;
};
__device__ inline RowList* row_list() {
    LOOMFAST_SHARED(RowList, list, );
    return &list;
}

struct Nothing {};

// The same, where a crew is several warps: the block lists the rows that are wanted, and its crews take them in turn.
// The order of the list depends on the schedule, the results do not. The owner is a crew's first thread. Before, each
// warp tries its share of the list alone: quick(row, payload) says whether that was enough.
template <class Team, class Wants, class Quick, class Body>
__device__ void rows_by_squads(const Team& team, int rows, Wants wants, Quick quick, Body body) {
    RowList& list = *row_list();
    const int me = static_cast<int>(threadIdx.x);
    const int crew = Team::number();
    const int crews = Team::crews();
    for (int first = team.block; first < rows; first += team.stride()) {
        if (me == 0) {
            list.length = 0;
        }
        __syncthreads();
        const int mine = first + me * team.blocks;
        Word payload = 0;
        if (mine < rows && wants(mine, &payload)) {
            list.entries[atomicAdd(&list.length, 1)] = {payload, mine};
        }
        __syncthreads();
        const int length = list.length;
        if constexpr (!std::is_same_v<Quick, Nothing>) {
            for (int k = me >> 5; k < length; k += static_cast<int>(blockDim.x) >> 5) {
                const bool done = quick(list.entries[k].row, list.entries[k].payload);
                __syncwarp();
                if (done && lane_id() == 0) {
                    list.entries[k].row = -1;
                }
            }
            __syncthreads();
        }
        for (int k = crew; k < length; k += crews) {
            if (list.entries[k].row >= 0) {
                body(list.entries[k].row, list.entries[k].payload, Team::member() == 0);
            }
        }
        __syncthreads();
    }
}

template <class Team, class Wants, class Body, class Quick = Nothing>
__device__ void for_rows(const Team& team, int rows, Wants wants, Body body, Quick quick = {}) {
    if constexpr (std::is_base_of_v<WarpCrew, Team>) {
        rows_by_warps(team, rows, wants, body);
    } else {
        rows_by_squads(team, rows, wants, quick, body);
    }
}

template <class Crew>
__device__ Int crew_min(Int value) {
    return Crew::least(value);
}

}  // namespace loomfast::cuda
