// The scheduler of cuda_on_cpu.hpp: one fiber per CUDA thread, all on one OS thread.
//
// Three builds: plain; -DSHIM_ASAN with -fsanitize=address,undefined; -DSHIM_TSAN, compiled WITHOUT
// -fsanitize=thread (the kernels are compiled with it) so that TSan sees the kernel's accesses and
// not the scheduler's. Under TSan every CUDA thread is a TSan fiber, switches carry no ordering, and
// only barriers, __syncwarp and fences do: a missing one is reported as the data race it is.
// Stacks and shared memory are never reused there, so that no report can mix two launches.
#include "cuda_on_cpu.hpp"
#include "fibers.hpp"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace cuda_on_cpu {

Thread* current;

namespace {

Launch* running;
std::vector<char*> spare_stacks;
#ifdef SHIM_ASAN
const void* scheduler_stack = nullptr;
size_t scheduler_stack_bytes = 0;
#endif

Fiber* self() { return static_cast<Fiber*>(current); }

void switch_to(Fiber* to) {
    Fiber* from = self();
    if (from == to) {
        return;
    }
    current = to;
#ifdef SHIM_ASAN
    __sanitizer_start_switch_fiber(from->done ? nullptr : &from->asan_stack, to->stack ? to->stack : scheduler_stack,
                                   to->stack ? kStackBytes : scheduler_stack_bytes);
#endif
#ifdef SHIM_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
    shim_switch_stacks(&from->stack_pointer, to->stack_pointer);
#ifdef SHIM_ASAN
    __sanitizer_finish_switch_fiber(from->asan_stack, nullptr, nullptr);
#endif
}

// Ends the launch with a message; the failing fiber never runs again.
[[noreturn]] void fail(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    running->error = text;
    switch_to(&running->scheduler);
    std::abort();
}

// Those whose time has come are ready; all, where nobody else is.
void wake_up() {
    auto& asleep = running->asleep;
    for (size_t k = asleep.size(); k-- > 0;) {
        if (asleep[k].first <= running->counters.switches || running->ready.empty()) {
            running->ready.push_back(asleep[k].second);
            asleep[k] = asleep.back();
            asleep.pop_back();
        }
    }
}

Fiber* take_ready() {
    auto& ready = running->ready;
    wake_up();
    if (ready.empty()) {
        return nullptr;
    }
    if (running->schedule.order == Order::random) {
        std::swap(ready[running->random() % ready.size()], ready.back());
    }
    Fiber* fiber = running->schedule.order == Order::forward ? ready.front() : ready.back();
    running->schedule.order == Order::forward ? ready.pop_front() : ready.pop_back();
    return fiber;
}

void suspend(const char* waits_for, int line) {
    self()->waits_for = waits_for;
    self()->waits_at = line;
    if (++running->counters.switches > running->schedule.max_switches) {
        fail("more than %llu switches: endless loop at %s:%d?",
             static_cast<unsigned long long>(running->schedule.max_switches), waits_for, line);
    }
    Fiber* next = take_ready();
    switch_to(next ? next : &running->scheduler);
}

void release(Barrier& barrier, uint64_t& counter) {
    for (Fiber* fiber : barrier.fibers) {
        fiber->vote_result = barrier.votes;
        running->ready.push_back(fiber);
    }
    barrier.fibers.clear();
    barrier.waiting = 0;
    barrier.votes = 0;
    ++barrier.releases;
    ++counter;
}

int arrive(Barrier& barrier, unsigned expected, int vote, const char* file, int line, uint64_t& counter) {
    Fiber* me = self();
    if (barrier.waiting == 0) {
        barrier.file = file;
        barrier.line = line;
    } else if (barrier.file != file || barrier.line != line) {
        fail("divergent barrier: thread %u of block %u at %s:%d, others at line %d", me->thread_index.x,
             me->block_index.x, file, line, barrier.line);
    }
    void* token = &barrier.tokens[barrier.releases & 1];
    happens_before(token);
    ++barrier.waiting;
    barrier.votes += vote != 0;
    barrier.fibers.push_back(me);
    if (barrier.waiting == expected) {
        release(barrier, counter);
    }
    suspend("barrier", line);
    happens_after(token);
    return me->vote_result;
}

// A meeting takes place once every lane of its mask has come or has left the kernel.
void hold_if_complete(Warp& warp, Meeting& meeting) {
    if (meeting.arrived != (meeting.mask & ~warp.exited)) {
        return;
    }
    meeting.unread = meeting.arrived;
    for (int lane = 0; lane < 32; ++lane) {
        if (meeting.arrived >> lane & 1) {
            running->ready.push_back(warp.lanes[lane]);
        }
    }
    for (auto& open : warp.open) {
        if (open.get() == &meeting) {
            warp.closed.push_back(std::move(open));
            std::swap(open, warp.open.back());
            warp.open.pop_back();
            return;
        }
    }
}

void leave_kernel() {
    Fiber* me = self();
    me->done = true;
    --me->block->live;
    --running->live;
    me->warp->exited |= 1u << me->lane;
    for (size_t k = me->warp->open.size(); k-- > 0;) {
        hold_if_complete(*me->warp, *me->warp->open[k]);
    }
    Block& block = *me->block;
    if (block.live && block.barrier.waiting == block.live) {
        release(block.barrier, running->counters.block_barriers);
    }
    if (running->live && running->grid.waiting == running->live) {
        release(running->grid, running->counters.grid_barriers);
    }
    Cluster& cluster = *block.cluster;
    if (--cluster.live && cluster.barrier.waiting == cluster.live) {
        release(cluster.barrier, running->counters.cluster_barriers);
    }
}

void fiber_main() {
#ifdef SHIM_ASAN
    const void* bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (scheduler_stack_bytes == 0) {  // the first fiber of a launch is entered from the scheduler
        scheduler_stack = bottom;
        scheduler_stack_bytes = bytes;
    }
#endif
    happens_after(&running->begin_token);
    self()->block->begun = true;
    (*running->kernel)();
    {
        Unseen unseen;
        leave_kernel();
        happens_before(&running->end_token);
    }
    switch_to(&running->scheduler);
    std::abort();
}

char* new_stack() {
    if (!spare_stacks.empty()) {
        char* stack = spare_stacks.back();
        spare_stacks.pop_back();
        return stack;
    }
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        throw std::runtime_error("no memory for a fiber's stack");
    }
    return static_cast<char*>(stack);
}

void prepare_stack(Fiber& fiber) {
    fiber.stack = new_stack();
    void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes) - 1;
    *--top = reinterpret_cast<void*>(fiber_main);
    for (int saved_register = 0; saved_register < 6; ++saved_register) {
        *--top = nullptr;
    }
    fiber.stack_pointer = top;
#ifdef SHIM_TSAN
    fiber.tsan_fiber = __tsan_create_fiber(0);
#endif
}

void prepare_shared(Block& block) {
    block.capacity = (running->schedule.shared_limit + 8192 + 127) / 128 * 128;
    block.memory = static_cast<unsigned char*>(std::aligned_alloc(128, block.capacity));
    for (size_t k = 0; k < block.capacity; k += 4) {  // shared memory starts as garbage
        const uint32_t garbage = running->random() | 0x80808080u;
        std::memcpy(block.memory + k, &garbage, 4);
    }
#ifdef SHIM_ASAN
    const size_t dynamic_bytes = running->dynamic_bytes;
    __asan_poison_memory_region(block.memory + dynamic_bytes, block.capacity - dynamic_bytes);
#endif
}

std::unique_ptr<Block> start_block(unsigned index, dim3 grid, dim3 shape, const std::shared_ptr<Cluster>& cluster) {
    auto block = std::make_unique<Block>();
    const unsigned rank = static_cast<unsigned>(cluster->blocks.size());
    cluster->blocks.push_back(block.get());
    block->cluster = cluster;
    const unsigned threads = shape.x * shape.y * shape.z;
    block->threads.resize(threads);
    block->warps.resize((threads + 31) / 32);
    block->live = threads;
    running->live += threads;
    cluster->live += threads;
    prepare_shared(*block);
    for (unsigned t = 0; t < threads; ++t) {
        Fiber& fiber = block->threads[t];
        fiber.block_dim = shape;
        fiber.grid_dim = grid;
        fiber.thread_index = {t % shape.x, t / shape.x % shape.y, t / shape.x / shape.y};
        fiber.block_index = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
        fiber.lane = t % 32;
        fiber.cluster_rank = rank;
        fiber.block = block.get();
        fiber.warp = &block->warps[t / 32];
        fiber.warp->lanes[t % 32] = &fiber;
        prepare_stack(fiber);
        running->ready.push_back(&fiber);
    }
    if (threads % 32) {
        block->warps.back().exited = ~0u << threads % 32;
    }
    return block;
}

// Starts the blocks of cluster `number`.
void start_cluster(unsigned number, unsigned size, dim3 grid, dim3 shape,
                   std::vector<std::unique_ptr<Block>>& blocks) {
    const auto cluster = std::make_shared<Cluster>();
    for (unsigned rank = 0; rank < size; ++rank) {
        blocks.push_back(start_block(number * size + rank, grid, shape, cluster));
        for (Fiber& fiber : blocks.back()->threads) {
            fiber.cluster_blocks = size;
        }
    }
}

// What nobody may read any more: spoilt, and given back once all of the cluster have left.
void leave_shared(Block& block) {
    Cluster& cluster = *block.cluster;
    std::memset(block.memory, 0xA5, running->dynamic_bytes);
    for (const void* declaration : block.declared) {
        const Declaration& known = running->declarations.at(declaration);
        std::memset(block.memory + known.at, 0xA5, known.bytes);
    }
#ifdef SHIM_ASAN
    __asan_poison_memory_region(block.memory, block.capacity);
#endif
    for (Block*& member : cluster.blocks) {
        member = member == &block ? nullptr : member;
    }
    cluster.left_behind.push_back({block.memory, block.capacity});
    if (cluster.left_behind.size() == cluster.blocks.size()) {
        for (const auto& [memory, capacity] : cluster.left_behind) {
#ifdef SHIM_ASAN
            __asan_unpoison_memory_region(memory, capacity);
#else
            static_cast<void>(capacity);
#endif
            if (kReuseMemory) {
                std::free(memory);
            }
        }
    }
}

void end_block(Block& block) {
    for (Fiber& fiber : block.threads) {
#ifdef SHIM_ASAN
        __asan_unpoison_memory_region(fiber.stack, kStackBytes);
#endif
#ifdef SHIM_TSAN
        if (fiber.done) {
            __tsan_destroy_fiber(fiber.tsan_fiber);
        }
#endif
        if (kReuseMemory) {
            spare_stacks.push_back(fiber.stack);
        } else {
            madvise(fiber.stack, kStackBytes, MADV_DONTNEED);
        }
    }
    leave_shared(block);
}

std::string describe_deadlock(const std::vector<std::unique_ptr<Block>>& blocks) {
    std::string text = "deadlock: " + std::to_string(running->live) + " threads stuck;";
    int named = 0;
    for (const auto& block : blocks) {
        for (const Fiber& fiber : block->threads) {
            if (!fiber.done && named++ < 4) {
                text += " thread " + std::to_string(fiber.thread_index.x) + " of block " +
                        std::to_string(fiber.block_index.x) + " waits for " + fiber.waits_for + ":" +
                        std::to_string(fiber.waits_at) + ";";
            }
        }
    }
    return text;
}

// In which order so many clusters begin.
std::vector<unsigned> cluster_order(unsigned clusters) {
    std::vector<unsigned> order(clusters);
    for (unsigned k = 0; k < clusters; ++k) {
        order[k] = running->schedule.order == Order::backward ? clusters - 1 - k : k;
    }
    if (running->schedule.order == Order::random) {
        std::shuffle(order.begin(), order.end(), running->random);
    }
    return order;
}

}  // namespace

int block_barrier(Vote vote, int predicate, const char* file, int line) {
    Unseen unseen;
    Block& block = *self()->block;
    const int count = arrive(block.barrier, block.live, vote == Vote::all ? !predicate : predicate, file, line,
                             running->counters.block_barriers);
    return vote == Vote::count ? count : vote == Vote::any ? count > 0 : count == 0;
}

void named_barrier(int number, unsigned threads, const char* file, int line) {
    Unseen unseen;
    if (number < 1 || number > 15 || threads == 0 || threads % 32) {
        fail("barrier %d of %u threads at %s:%d: a block has 15 such barriers, for whole warps", number, threads, file,
             line);
    }
    arrive(self()->block->named[number], threads, 0, file, line, running->counters.block_barriers);
}

void grid_barrier(const char* file, int line) {
    Unseen unseen;
    if (!running->cooperative) {
        fail("grid barrier at %s:%d in a launch that is not cooperative", file, line);
    }
    arrive(running->grid, running->live, 0, file, line, running->counters.grid_barriers);
}

void team_barrier(const void* address, unsigned blocks, const char* file, int line) {
    Unseen unseen;
    if (!running->cooperative) {
        fail("barrier of blocks at %s:%d in a launch that is not cooperative", file, line);
    }
    const dim3& shape = self()->block_dim;
    arrive(running->teams[address], blocks * shape.x * shape.y * shape.z, 0, file, line,
           running->counters.grid_barriers);
}

void cluster_arrive(bool releases, const char* file, int line) {
    Unseen unseen;
    Fiber* me = self();
    Cluster& cluster = *me->block->cluster;
    Barrier& barrier = cluster.barrier;
    if (me->in_cluster_barrier) {
        fail("thread %u of block %u comes to a cluster barrier at %s:%d twice", me->thread_index.x, me->block_index.x,
             file, line);
    }
    me->in_cluster_barrier = true;
    me->cluster_phase = barrier.releases;
    if (releases) {
        happens_before(&barrier.tokens[barrier.releases & 1]);
    }
    if (++barrier.waiting == cluster.live) {
        release(barrier, running->counters.cluster_barriers);
    }
}

void cluster_wait(bool acquires) {
    Unseen unseen;
    Fiber* me = self();
    Barrier& barrier = me->block->cluster->barrier;
    if (!me->in_cluster_barrier) {
        fail("thread %u of block %u waits for a cluster barrier to which it has not come", me->thread_index.x,
             me->block_index.x);
    }
    if (barrier.releases == me->cluster_phase) {
        barrier.fibers.push_back(me);
        suspend("cluster barrier", 0);
    }
    me->in_cluster_barrier = false;
    if (acquires) {
        happens_after(&barrier.tokens[me->cluster_phase & 1]);
    }
}

void* map_shared(void* own, unsigned rank) {
    Unseen unseen;
    Fiber* me = self();
    Block& block = *me->block;
    const auto& blocks = block.cluster->blocks;
    auto* address = static_cast<unsigned char*>(own);
    if (address < block.memory || address >= block.memory + block.capacity) {
        fail("thread %u of block %u maps an address that is not in its shared memory", me->thread_index.x,
             me->block_index.x);
    }
    if (rank >= blocks.size() || !blocks[rank] || !blocks[rank]->begun) {
        fail("thread %u of block %u maps shared memory of block %u of its cluster, which %s", me->thread_index.x,
             me->block_index.x, rank,
             rank >= blocks.size() ? "there is not" : blocks[rank] ? "has not begun" : "has left the kernel");
    }
    return blocks[rank]->memory + (address - block.memory);
}

uint32_t warp_meet(uint32_t mask, uint64_t value, uint64_t* values, bool orders_memory, const char* what) {
    Unseen unseen;
    Fiber* me = self();
    Warp& warp = *me->warp;
    ++running->counters.warp_collectives;
    if (!(mask >> me->lane & 1)) {
        fail("%s: lane %u is not in its own mask %08x", what, me->lane, mask);
    }
    Meeting* meeting = nullptr;
    for (auto& open : warp.open) {
        if (open->mask == mask) {
            meeting = open.get();
        } else if (open->mask & mask) {
            fail("%s: masks %08x and %08x overlap", what, mask, open->mask);
        }
    }
    if (!meeting) {
        warp.open.push_back(std::make_unique<Meeting>());
        meeting = warp.open.back().get();
        meeting->mask = mask;
        meeting->arrived = meeting->unread = 0;
        meeting->what = what;
    } else if (std::strcmp(meeting->what, what) != 0) {
        fail("lane %u of block %u is at %s, other lanes are at %s", me->lane, me->block_index.x, what, meeting->what);
    }
    meeting->values[me->lane] = value;
    meeting->arrived |= 1u << me->lane;
    if (orders_memory) {
        happens_before(meeting);
    }
    hold_if_complete(warp, *meeting);
    suspend(what, 0);
    if (orders_memory) {
        happens_after(meeting);
    }
    std::memcpy(values, meeting->values, sizeof meeting->values);
    const uint32_t came = meeting->arrived;
    meeting->unread &= ~(1u << me->lane);
    if (meeting->unread == 0) {
        for (auto& closed : warp.closed) {
            if (closed.get() == meeting) {
                std::swap(closed, warp.closed.back());
                warp.closed.pop_back();
                break;
            }
        }
    }
    return came;
}

void* static_shared(const void* declaration, size_t bytes, size_t alignment) {
    Unseen unseen;
    Block& block = *self()->block;
    for (const void* known : block.declared) {
        if (known == declaration) {
            return block.memory + running->declarations.at(declaration).at;
        }
    }
    if (running->declarations.find(declaration) == running->declarations.end()) {
        const size_t at = (running->shared_used + alignment - 1) / alignment * alignment;
        if (at + bytes > running->schedule.shared_limit) {
            fail("shared memory: %zu bytes asked, limit %zu", at + bytes, running->schedule.shared_limit);
        }
        running->shared_used = at + bytes;
#ifdef SHIM_ASAN
        running->shared_used += 64 - running->shared_used % 32;  // what follows stays poisoned
#endif
        running->counters.shared_bytes = std::max(running->counters.shared_bytes, at + bytes);
        running->declarations[declaration] = {at, bytes};
    }
    const size_t at = running->declarations.at(declaration).at;
#ifdef SHIM_ASAN
    __asan_unpoison_memory_region(block.memory + at, bytes);
#endif
    block.declared.push_back(declaration);
    return block.memory + at;
}

unsigned char* dynamic_shared() { return self()->block->memory; }

// Now and then a thread stays away for so long that others are a barrier ahead.
void yield() {
    Unseen unseen;
    constexpr unsigned one_of = 8, longest = 4096;
    if (running->schedule.order == Order::random && running->random() % one_of == 0) {
        running->asleep.push_back({running->counters.switches + running->random() % longest, self()});
    } else {
        running->ready.push_back(self());
    }
    suspend("yield", 0);
}

void before_atomic() {
    ++running->counters.atomics;
    if (running->schedule.preempt && running->random() % running->schedule.preempt == 0) {
        yield();
    }
}

void memory_fence() {
    happens_after(&running->fence_token);
    happens_before(&running->fence_token);
}

Counters launch(dim3 grid, dim3 block, size_t dynamic_bytes, bool cooperative, const std::function<void()>& kernel,
                const Schedule& schedule, unsigned cluster) {
    Unseen unseen;
    const unsigned count = grid.x * grid.y * grid.z;
    if (cluster == 0 || cluster > 16 || count % cluster) {
        throw std::runtime_error("a grid that does not divide into clusters of at most 16 blocks");
    }
    if (block.x * block.y * block.z > 1024 || dynamic_bytes > schedule.shared_limit) {
        throw std::runtime_error("a block of more than 1024 threads, or of more shared memory than there is");
    }
    Launch launch{};
    launch.kernel = &kernel;
    launch.schedule = schedule;
    launch.cooperative = cooperative;
    launch.random.seed(schedule.seed);
    launch.counters.shared_bytes = launch.dynamic_bytes = dynamic_bytes;
    launch.shared_used = (dynamic_bytes + 127) / 128 * 128;
    running = &launch;
    current = &launch.scheduler;
#ifdef SHIM_ASAN
    scheduler_stack_bytes = 0;
#endif
#ifdef SHIM_TSAN
    launch.scheduler.tsan_fiber = __tsan_get_current_fiber();
#endif
    happens_before(&launch.begin_token);
    const std::vector<unsigned> order = cluster_order(count / cluster);
    size_t next = 0;
    std::vector<std::unique_ptr<Block>> blocks;
    while (launch.error.empty()) {
        for (size_t k = blocks.size(); k-- > 0;) {
            if (!blocks[k]->live) {
                end_block(*blocks[k]);
                blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(k));
            }
        }
        while (next < order.size() && (cooperative || blocks.size() < schedule.resident * cluster)) {
            start_cluster(order[next++], cluster, grid, block, blocks);
        }
        Fiber* fiber = take_ready();
        if (!fiber) {
            break;
        }
        switch_to(fiber);
    }
    if (launch.error.empty() && launch.live) {
        launch.error = describe_deadlock(blocks);
    }
    for (const auto& left : blocks) {
        end_block(*left);
    }
    happens_after(&launch.end_token);
    current = nullptr;
    if (!launch.error.empty()) {
        throw std::runtime_error(launch.error);
    }
    return launch.counters;
}

}  // namespace cuda_on_cpu
