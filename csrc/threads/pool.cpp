#include "threads/pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "threads/arithmetic.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace loomfast {
namespace {

using namespace std::chrono_literals;
using Work = std::function<void(int64_t)>;

constexpr int64_t kMostThreads = 256;  // more do not make anything faster
constexpr auto kPatience = 200us;      // of a caller whose others have little left: shorter than to sleep and be woken
constexpr auto kAttention = 50ms;      // between two calls of `meanwhile`

// One caller's work. It lies on the caller's stack, and nobody else touches it without the pool's mutex but `work`
// itself and `unfinished`.
struct Job {
    const Work& work;
    const int64_t parts;
    int64_t next = 0;  // the first part that nobody has taken
    std::atomic<int64_t> unfinished = parts;
    std::condition_variable finished{};
    Job* below = nullptr;  // the next of the open jobs
};

class Pool {
  public:
    // `meanwhile`, if there is one, is called every 50 ms while the caller waits: for long work.
    void run(int64_t parts, const Work& work, const std::function<void()>* meanwhile) {
        Job job{work, parts};
        std::unique_lock<std::mutex> lock(mutex_);
        hire(parts - 1);
        job.below = open_;
        open_ = &job;
        wanted_.notify_all();
        while (job.next < job.parts) do_next(job, lock);
        if (!meanwhile) {
            lock.unlock();
            const auto patience = std::chrono::steady_clock::now() + kPatience;
            while (job.unfinished > 0 && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
            lock.lock();  // after this nobody holds the job, even if nothing was unfinished before
        }
        while (!job.finished.wait_for(lock, kAttention, [&] { return job.unfinished == 0; })) {
            if (!meanwhile) continue;
            lock.unlock();
            (*meanwhile)();
            lock.lock();
        }
    }

  private:
    // Starts threads until so many are free, if they can be had.
    void hire(int64_t wanted) {
        try {
            for (; free_ < wanted && threads_ < kMostThreads; ++threads_, ++free_)
                std::thread(&Pool::serve, this).detach();
        } catch (const std::exception&) {
            // No more threads, or no memory for one: those there are, and the caller, do the work.
        }
    }

    void serve() {
        const DefaultArithmetic arithmetic;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wanted_.wait(lock, [this] { return open_ != nullptr; });
            --free_;
            do_next(*open_, lock);
            ++free_;
        }
    }

    // Takes a part under the lock, so that nobody ever holds the work of a call that has returned.
    void do_next(Job& job, std::unique_lock<std::mutex>& lock) {
        const int64_t part = job.next++;
        if (job.next == job.parts) close(job);
        lock.unlock();
        job.work(part);
        lock.lock();
        if (--job.unfinished == 0) job.finished.notify_one();
    }

    void close(const Job& job) {
        Job** at = &open_;
        while (*at != &job) at = &(*at)->below;
        *at = job.below;
    }

    std::mutex mutex_;
    std::condition_variable wanted_;
    Job* open_ = nullptr;  // the jobs that have parts left, the latest first
    int64_t threads_ = 0, free_ = 0;
};

// Never destroyed: its threads wait in it until the process ends.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
#if defined(__unix__) || defined(__APPLE__)
    static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool = nullptr; });
    static_cast<void>(registered);
#endif
    Pool* found = the_pool;
    if (!found) {
        Pool* const fresh = new Pool;
        if (the_pool.compare_exchange_strong(found, fresh)) return *fresh;
        delete fresh;
    }
    return *found;
}

}  // namespace

void run_parts(int64_t parts, const Work& work) {
    if (parts > 1) return pool().run(parts, work, nullptr);
    if (parts == 1) work(0);
}

void run_together(int64_t threads, const std::function<void()>& work, const std::function<void()>& meanwhile) {
    if (threads <= 1) return work();
    std::mutex mutex;
    std::exception_ptr error;
    const Work guarded = [&](int64_t) {
        try {
            work();
        } catch (...) {
            const std::lock_guard lock(mutex);
            error = std::current_exception();
        }
    };
    pool().run(std::min(threads, kMostThreads), guarded, &meanwhile);
    if (error) std::rethrow_exception(error);
}

void run_chunks(int64_t count, int64_t grain, int threads, const std::function<void(int64_t, int64_t)>& work) {
    const int64_t chunks = (count + grain - 1) / grain;
    std::atomic<int64_t> next{0};
    run_parts(std::clamp<int64_t>(threads, 1, std::max<int64_t>(chunks, 1)), [&](int64_t) {
        for (int64_t chunk = next++; chunk < chunks; chunk = next++)
            work(chunk * grain, std::min(count, (chunk + 1) * grain));
    });
}

}  // namespace loomfast
