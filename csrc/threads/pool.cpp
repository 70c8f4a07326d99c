#include "threads/pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "threads/arithmetic.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace loomfast {
namespace {

using Work = std::function<void(int64_t)>;

constexpr int64_t kMostThreads = 256;  // more do not make anything faster

class Pool {
  public:
    bool try_run(int64_t parts, const Work& work) {
        std::unique_lock<std::mutex> alone(one_caller_, std::try_to_lock);
        if (!alone) return false;
        hire(parts - 1);
        std::unique_lock<std::mutex> lock(mutex_);
        work_ = &work;
        next_ = 0;
        parts_ = unfinished_ = parts;
        wanted_.notify_all();
        while (next_ < parts_) do_next(lock);
        lock.unlock();
        // What the others have left is short as a rule, shorter than to fall asleep and be woken.
        const auto patience = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
        while (unfinished_ > 0 && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
        lock.lock();
        finished_.wait(lock, [this] { return unfinished_ == 0; });
        return true;
    }

  private:
    void hire(int64_t workers) {
        try {
            for (; workers_ < std::min(workers, kMostThreads); ++workers_) std::thread(&Pool::serve, this).detach();
        } catch (const std::exception&) {
            // No more threads, or no memory for one: those there are, and the caller, do the work.
        }
    }

    void serve() {
        const DefaultArithmetic arithmetic;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wanted_.wait(lock, [this] { return next_ < parts_; });
            do_next(lock);
        }
    }

    // Takes a part under the lock, so that nobody ever holds the work of a call that has returned.
    void do_next(std::unique_lock<std::mutex>& lock) {
        const Work& work = *work_;
        const int64_t part = next_++;
        lock.unlock();
        work(part);
        lock.lock();
        if (--unfinished_ == 0) finished_.notify_one();
    }

    std::mutex one_caller_, mutex_;
    std::condition_variable wanted_, finished_;
    const Work* work_ = nullptr;
    int64_t next_ = 0, parts_ = 0, workers_ = 0;
    std::atomic<int64_t> unfinished_{0};
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
    if (parts > 1 && pool().try_run(parts, work)) return;
    for (int64_t part = 0; part < parts; ++part) work(part);
}

void run_together(int64_t threads, const std::function<void()>& work, const std::function<void()>& meanwhile) {
    std::mutex mutex;
    std::condition_variable finished;
    std::size_t done = 0;
    std::exception_ptr error;
    const auto run = [&] {
        std::exception_ptr thrown;
        try {
            work();
        } catch (...) {
            thrown = std::current_exception();
        }
        const std::lock_guard lock(mutex);
        if (thrown) error = thrown;
        ++done;
        finished.notify_one();
    };
    const auto help = [&] {
        const DefaultArithmetic arithmetic;
        run();
    };
    std::vector<std::thread> helpers;
    try {
        for (int64_t t = 1; t < std::min(threads, kMostThreads); ++t) helpers.emplace_back(help);
    } catch (const std::exception&) {
        // As in Pool::hire.
    }
    run();
    for (std::unique_lock lock(mutex); done <= helpers.size();) {
        finished.wait_for(lock, std::chrono::milliseconds(50), [&] { return done > helpers.size(); });
        lock.unlock();
        meanwhile();
        lock.lock();
    }
    for (std::thread& helper : helpers) helper.join();
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
