// The engine's own threads: one pool, started when first needed, kept, and shared by all who call at a time.
#pragma once

#include <cstdint>
#include <functional>

namespace loomfast {

// Calls work(0) ... work(parts - 1), each once, on the caller and on up to parts - 1 threads of the pool, and returns
// when all are done. The caller does whatever no thread is free for, so that there may be none. A forked child starts
// a pool of its own. `work` must not throw.
void run_parts(int64_t parts, const std::function<void(int64_t)>& work);

// Calls work() up to `threads` times at once, on the caller and on threads of the pool, of which fewer or none may be
// free, so that one call of `work` must be able to do everything. While the caller waits for the others, it calls
// `meanwhile` every 50 ms. An exception of `work` is thrown again at the end.
void run_together(int64_t threads, const std::function<void()>& work, const std::function<void()>& meanwhile);

// Calls work(begin, end) for every piece of [0, count) cut at multiples of `grain`. Up to `threads` threads take
// a piece whenever they are free, so that one that starts late holds up nobody.
void run_chunks(int64_t count, int64_t grain, int threads, const std::function<void(int64_t, int64_t)>& work);

}  // namespace loomfast
