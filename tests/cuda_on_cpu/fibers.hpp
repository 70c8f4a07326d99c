// What the scheduler is made of: fibers, warps, blocks and a launch, and what they need from the machine and
// the sanitizers (switching stacks, hiding the scheduler's accesses from TSan, telling TSan which waits order
// memory).
#pragma once

#include "cuda_on_cpu.hpp"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#error "the shim switches fibers with x86-64 assembly"
#endif

#ifdef SHIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef SHIM_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif

// Saves the callee-saved registers on the old stack and takes them from the new one.
asm(R"(.text
.globl shim_switch_stacks
.hidden shim_switch_stacks
shim_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
extern "C" void shim_switch_stacks(void** save, void* to);

namespace cuda_on_cpu {

#ifdef SHIM_TSAN
constexpr bool kReuseMemory = false;
// The scheduler's own calls into libc are no accesses of the kernel. Counted per fiber.
struct Unseen {
    Unseen() {
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~Unseen() {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
};
inline void happens_before(void* token) { __tsan_release(token); }
inline void happens_after(void* token) { __tsan_acquire(token); }
#else
constexpr bool kReuseMemory = true;
struct Unseen {
    Unseen() {}
};
inline void happens_before(void*) {}
inline void happens_after(void*) {}
#endif

constexpr size_t kStackBytes = 128 << 10;

struct Block;
struct Warp;

struct Fiber : Thread {
    void* stack_pointer = nullptr;
    char* stack = nullptr;
    Block* block = nullptr;
    Warp* warp = nullptr;
    const char* waits_for = nullptr;
    int waits_at = 0;
    int vote_result = 0;
    bool done = false;
    bool in_cluster_barrier = false;  // has come, and not yet waited
    unsigned cluster_phase = 0;       // of that barrier
    void* asan_stack = nullptr;
    void* tsan_fiber = nullptr;
};

// Lanes that meet in one collective; lives until the last of them has read it.
struct Meeting {
    uint64_t values[32];
    uint32_t mask, arrived, unread;
    const char* what;
};

struct Warp {
    Fiber* lanes[32] = {};
    uint32_t exited = 0;
    std::vector<std::unique_ptr<Meeting>> open;
    std::vector<std::unique_ptr<Meeting>> closed;
};

struct Barrier {
    unsigned waiting = 0;
    unsigned releases = 0;
    int votes = 0;
    const char* file = nullptr;
    int line = 0;
    char tokens[2];
    std::vector<Fiber*> fibers;
};

// Blocks that are there at the same time and reach each other's shared memory; what a block leaves behind is kept, and
// spoilt, until all have left.
struct Cluster {
    std::vector<Block*> blocks;  // null: has left
    unsigned live = 0;           // threads
    Barrier barrier;
    std::vector<std::pair<unsigned char*, size_t>> left_behind;
};

struct Block {
    std::vector<Fiber> threads;
    std::vector<Warp> warps;
    unsigned live = 0;
    bool begun = false;
    Barrier barrier;
    Barrier named[16];
    unsigned char* memory = nullptr;
    size_t capacity = 0;
    std::vector<const void*> declared;  // those of the launch's declarations that it has come to
    std::shared_ptr<Cluster> cluster;
};

// A static array in shared memory lies in the same place in every block.
struct Declaration {
    size_t at, bytes;
};

struct Launch {
    const std::function<void()>* kernel;
    Schedule schedule;
    bool cooperative;
    Counters counters;
    std::mt19937 random;
    std::deque<Fiber*> ready;
    std::vector<std::pair<uint64_t, Fiber*>> asleep;  // until so many switches
    Fiber scheduler;
    Barrier grid;
    std::map<const void*, Barrier> teams;
    std::map<const void*, Declaration> declarations;
    size_t dynamic_bytes = 0, shared_used = 0;
    unsigned live = 0;
    std::string error;
    char begin_token, end_token, fence_token;
};

}  // namespace cuda_on_cpu
