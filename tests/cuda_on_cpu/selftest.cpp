// Small kernels, each with one planted defect that can be switched on, to prove that the shim
// reports it and reports nothing when it is off.
//
//   selftest DEFECT SEED SEEDS NAME...     DEFECT: 0 or 1; NAME: see run()
//
// Exit status: 0 right results, 1 the shim refused (message on stdout), 2 wrong result; a sanitizer
// ends the process with a status of its own.
#include "cuda_compat.cuh"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int kThreads = 96;
constexpr int kBlocks = 3;
constexpr int kTotal = kThreads * kBlocks;

__global__ void missing_barrier(int* out, bool defect) {
    LOOMFAST_SHARED(int, values, [kThreads]);
    const int t = threadIdx.x;
    values[t] = t;
    if (!defect) {
        __syncthreads();
    }
    out[blockIdx.x * kThreads + t] = values[kThreads - 1 - t];
}

__global__ void missing_syncwarp(int* out, bool defect) {
    LOOMFAST_SHARED(int, values, [kThreads]);
    const int t = threadIdx.x;
    values[t] = t;
    if (!defect) {
        __syncwarp();
    }
    out[blockIdx.x * kThreads + t] = values[t ^ 1];
}

__global__ void plain_update(int* out, bool defect) {
    LOOMFAST_SHARED(int, count, );
    const int t = threadIdx.x;
    if (t == 0) {
        count = 0;
    }
    __syncthreads();
    if (defect) {
        const int old = count;
        __nanosleep(1);
        count = old + 1;
    } else {
        atomicAdd(&count, 1);
    }
    __syncthreads();
    out[blockIdx.x * kThreads + t] = count;
}

__global__ void divergent_barrier(int* out, bool defect) {
    const int t = threadIdx.x;
    if (defect && t >= 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[blockIdx.x * kThreads + t] = t;
}

__global__ void divergent_collective(int* out, bool defect) {
    const int t = threadIdx.x;
    unsigned odd;
    if (defect && t % 2) {
        __syncwarp();
        odd = 0xAAAAAAAAu;
    } else {
        odd = __ballot_sync(~0u, t % 2);
    }
    out[blockIdx.x * kThreads + t] = odd == 0xAAAAAAAAu ? t : -1;
}

__global__ void shared_overrun(int* out, bool defect) {
    LOOMFAST_DYNAMIC_SHARED(raw);
    int* values = reinterpret_cast<int*>(raw);
    const int t = threadIdx.x;
    values[t + (defect ? 1 : 0)] = t;
    __syncthreads();
    out[blockIdx.x * kThreads + t] = values[t];
}

__global__ void uninitialised_shared(int* out, bool defect) {
    LOOMFAST_SHARED(int, flag, );
    const int t = threadIdx.x;
    if (!defect && t == 0) {
        flag = 0;
    }
    __syncthreads();
    out[blockIdx.x * kThreads + t] = flag ? -1 : t;
}

__global__ void missing_grid_sync(int* out, int* passing, bool defect) {
    const int t = blockIdx.x * kThreads + threadIdx.x;
    passing[t] = t;
    if (!defect) {
        cuda_on_cpu::grid_barrier(__FILE__, __LINE__);
    }
    out[t] = passing[kTotal - 1 - t];
}

// The barrier that runs on a GPU, under the shim's atomics: what is written before is seen after, and every block
// learns the sum of what all brought. Defects: no barrier; one ticket for all barriers (a late block finds what others
// brought to the next); a ticket that is not told which barrier it is (and lets all pass at once).
enum class Tickets { all_right, none, one, the_first_two };
__global__ void barrier_by_hand(int* out, int* passing, loomfast::cuda::GridBarrier* barrier, Tickets tickets) {
    LOOMFAST_SHARED(loomfast::cuda::Meeting, meeting, );
    const unsigned t = blockIdx.x * kThreads + threadIdx.x;
    if (threadIdx.x == 0) {
        meeting = {0, {0, 0}};
    }
    const auto meet = [&](unsigned tick, unsigned amount) {
        __syncthreads();
        if (threadIdx.x == 0 && tickets != Tickets::none) {
            const unsigned known = tickets == Tickets::one ? 2 * tick : tickets == Tickets::the_first_two ? tick % 2 : tick;
            meeting.sum = loomfast::cuda::meet_blocks(barrier, kBlocks, known, amount, meeting.before);
        }
        __syncthreads();
        return static_cast<int>(meeting.sum);
    };
    bool good = true;
    for (unsigned round = 0; round < 4; ++round) {
        passing[t] = static_cast<int>((round + 1) * t);
        const int sum = meet(2 * round, round + blockIdx.x);
        good = good && sum == static_cast<int>(kBlocks * round + kBlocks * (kBlocks - 1) / 2);
        const int seen = passing[kTotal - 1 - t] / static_cast<int>(round + 1);
        const int sevens = meet(2 * round + 1, 7);
        good = good && sevens == 7 * kBlocks;
        out[t] = good ? seen : -1;
    }
}

// A message from block 0 to the others: written, announced, read.
__global__ void message(int* out, int* passing, unsigned long long* announced, bool releases, bool acquires) {
    const int t = threadIdx.x;
    if (blockIdx.x == 0) {
        passing[t] = t;
        __syncthreads();
        if (t == 0 && releases) {
            loomfast::cuda::add_release(announced, 1ull);
        } else if (t == 0) {
            atomicAdd(announced, 1ull);
        }
    }
    if (t == 0) {
        while ((acquires ? loomfast::cuda::load_acquire(announced) : atomicAdd(announced, 0ull)) == 0) {
            __nanosleep(20);
        }
    }
    __syncthreads();
    out[blockIdx.x * kThreads + t] = passing[t];
}

// Each block of a cluster writes a part of the next one's shared memory, whose block reads it after the cluster's
// barrier. Defects: no barrier; one that does not release what was written; one that does not acquire it; none at the
// beginning, before which a block may not have begun; a block that leaves while the next one still reads what it
// wrote into its own memory.
struct Remote {
    bool begins = true, meets = true, releases = true, acquires = true, stays = true;
};
__global__ void remote_write(int* out, Remote what) {
    LOOMFAST_DYNAMIC_SHARED(raw);
    int* values = reinterpret_cast<int*>(raw);
    const int t = threadIdx.x;
    const unsigned rank = loomfast::cuda::cluster_rank();
    const unsigned blocks = loomfast::cuda::cluster_blocks();
    const auto meet = [&](bool releases, bool acquires) {
        cuda_on_cpu::cluster_arrive(releases, __FILE__, __LINE__);
        cuda_on_cpu::cluster_wait(acquires);
    };
    values[t] = -1;
    if (what.begins) {
        meet(true, true);
    }
    loomfast::cuda::map_shared(values, (rank + 1) % blocks)[t] = t;
    if (what.meets) {
        meet(what.releases, what.acquires);
    }
    out[blockIdx.x * kThreads + t] = values[kThreads - 1 - t];
}
__global__ void remote_read(int* out, bool stays) {
    LOOMFAST_DYNAMIC_SHARED(raw);
    int* values = reinterpret_cast<int*>(raw);
    const int t = threadIdx.x;
    values[t] = t;
    loomfast::cuda::meet_cluster();
    const unsigned next = (loomfast::cuda::cluster_rank() + 1) % loomfast::cuda::cluster_blocks();
    const int* others = loomfast::cuda::map_shared(values, next);
    __nanosleep(20);
    out[blockIdx.x * kThreads + t] = others[kThreads - 1 - t];
    if (stays) {
        loomfast::cuda::meet_cluster();
    }
}

// Two teams in one launch, each with a barrier of its own. Defect: both use the same, which lets each go too early.
__global__ void two_teams(int* out, int* passing, loomfast::cuda::GridBarrier* barriers, bool defect) {
    const unsigned team = blockIdx.x % 2, block = blockIdx.x / 2;
    LOOMFAST_SHARED(loomfast::cuda::Meeting, meeting, );
    const unsigned t = block * kThreads + threadIdx.x;
    int* mine = passing + team * 2 * kThreads;
    if (threadIdx.x == 0) {
        meeting = {0, {0, 0}};
    }
    mine[t] = static_cast<int>(t);
    __syncthreads();
    if (threadIdx.x == 0) {
        loomfast::cuda::meet_blocks(barriers + (defect ? 0 : team), 2, 0, 0, meeting.before);
    }
    __syncthreads();
    if (team == 0) {
        out[t] = mine[2 * kThreads - 1 - t];
    }
    if (blockIdx.x == 0) {
        out[2 * kThreads + threadIdx.x] = static_cast<int>(kThreads - 1 - threadIdx.x);
    }
}

bool right(const std::string& name, const std::vector<int>& out) {
    for (int k = 0; k < kTotal; ++k) {
        const int t = k % kThreads;
        int expected = t;
        if (name == "missing_barrier" || name.rfind("cluster", 0) == 0) {
            expected = kThreads - 1 - t;
        } else if (name == "missing_syncwarp") {
            expected = t ^ 1;
        } else if (name == "plain_update") {
            expected = kThreads;
        } else if (name == "teams_share_a_barrier") {
            expected = k < 2 * kThreads ? 2 * kThreads - 1 - k : kThreads - 1 - t;
        } else if (name == "missing_grid_sync" || name.rfind("barrier", 0) == 0) {
            expected = kTotal - 1 - k;
        }
        if (out[k] != expected) {
            return false;
        }
    }
    return true;
}

void run(const std::string& name, bool defect, const cuda_on_cpu::Schedule& schedule, std::vector<int>& out) {
    std::vector<int> passing(4 * kThreads, -1);
    loomfast::cuda::GridBarrier barriers[2]{};
    auto& barrier = barriers[0];
    int* o = out.data();
    int* p = passing.data();
    auto* b = &barrier;
    const dim3 grid(kBlocks), block(kThreads);
    const auto launch = [&](bool cooperative, const std::function<void()>& kernel) {
        cuda_on_cpu::launch(grid, block, kThreads * sizeof(int), cooperative, kernel, schedule);
    };
    if (name == "missing_barrier") {
        launch(false, [=] { missing_barrier(o, defect); });
    } else if (name == "missing_syncwarp") {
        launch(false, [=] { missing_syncwarp(o, defect); });
    } else if (name == "plain_update") {
        launch(false, [=] { plain_update(o, defect); });
    } else if (name == "divergent_barrier") {
        launch(false, [=] { divergent_barrier(o, defect); });
    } else if (name == "divergent_collective") {
        launch(false, [=] { divergent_collective(o, defect); });
    } else if (name == "shared_overrun") {
        launch(false, [=] { shared_overrun(o, defect); });
    } else if (name == "uninitialised_shared") {
        launch(false, [=] { uninitialised_shared(o, defect); });
    } else if (name == "missing_grid_sync") {
        launch(true, [=] { missing_grid_sync(o, p, defect); });
    } else if (name.rfind("barrier", 0) == 0) {
        const Tickets planted = name == "barrier_left_out" ? Tickets::none
                                : name == "barrier_ticket_reused" ? Tickets::one : Tickets::the_first_two;
        launch(true, [=] { barrier_by_hand(o, p, b, defect ? planted : Tickets::all_right); });
    } else if (name == "missing_release" || name == "missing_acquire") {
        auto* announced = &b->lines[0].ticket;
        const bool releases = !defect || name != "missing_release";
        const bool acquires = !defect || name != "missing_acquire";
        launch(true, [=] { message(o, p, announced, releases, acquires); });
    } else if (name == "cluster_block_leaves") {
        cuda_on_cpu::launch(grid, block, kThreads * sizeof(int), false, [=] { remote_read(o, !defect); }, schedule, kBlocks);
    } else if (name.rfind("cluster", 0) == 0) {
        Remote what;
        (name == "cluster_not_begun"         ? what.begins
         : name == "cluster_missing_barrier" ? what.meets
         : name == "cluster_missing_release" ? what.releases
                                             : what.acquires) = !defect;
        cuda_on_cpu::launch(grid, block, kThreads * sizeof(int), false, [=] { remote_write(o, what); }, schedule, kBlocks);
    } else if (name == "teams_share_a_barrier") {
        cuda_on_cpu::launch(dim3(4), block, kThreads * sizeof(int), true, [=] { two_teams(o, p, b, defect); }, schedule);
    } else {
        throw std::runtime_error("no kernel is called " + name);
    }
}

// 0: the right result for so many seeds; otherwise what became of the first that had another, told with the name.
int outcome(const std::string& name, bool defect, unsigned first, unsigned seeds) {
    for (unsigned seed = first; seed < first + seeds; ++seed) {
        cuda_on_cpu::Schedule schedule;
        schedule.seed = seed;
        schedule.resident = kBlocks;
        schedule.max_switches = 1'000'000;
        std::vector<int> out(kTotal, -12345);
        try {
            run(name, defect, schedule, out);
        } catch (const std::exception& error) {
            std::printf("%s, seed %u: %s\n", name.c_str(), seed, error.what());
            return 1;
        }
        if (!right(name, out)) {
            std::printf("%s, seed %u: a wrong result\n", name.c_str(), seed);
            return 2;
        }
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4) {
        std::puts("usage: selftest DEFECT SEED SEEDS NAME...");
        return 3;
    }
    const auto number = [&](int k) { return static_cast<unsigned>(std::atoi(arguments[k])); };
    for (int k = 4; k < count; ++k) {
        if (const int status = outcome(arguments[k], number(1) == 1, number(2), number(3))) {
            return status;
        }
    }
    return 0;
}
