// Prices remembered from other batches fit a matching almost: for many rows i some column k is a little
// cheaper than their own, c_ik + p_k < c_i,x(i) + p_x(i) = v. Raising p_k to v - c_ik makes i content, and the
// owner of k, whose own column became dearer, is looked at next. That is the label-correcting method for
// the shortest-path problem that optimal prices solve (Bellman, Ford). If the matching is optimal it
// converges; if not, a cycle of rows raises each other without end, and freeing one of them, the first to
// come up too often, breaks it. Prices only rise, so caches stay valid.
#include "assignment/cpu/push.hpp"

#include <cmath>

#include "assignment/cpu/finish.hpp"

namespace loomfast::assignment {

namespace {

// Measured on couplings of images and noise of every age. A round looks at n rows, which costs about 4 % of
// a cold solve; most of what is lost on rounds an auction from the same prices saves again. Where pushing
// settles a start, fewer and fewer rows wait, and few are on cycles; rows that are freed cost a shortest path
// each afterwards, and many of them far more than the auction does.
constexpr std::int32_t kVisits = 5;  // after which a row is taken to be on a cycle
constexpr std::int32_t kRounds = 6;
constexpr double kWaitingFirst = 0.75, kWaiting = 0.6;  // most rows waiting after the first, a later round
constexpr double kFreed = 0.3;                          // most rows freed

// First-in first-out queue of rows, each at most once.
struct Queue {
    explicit Queue(std::int32_t n) : rows(filled(n + 1, 0)), waiting(filled(n, char{0})) {}

    Array<std::int32_t> rows;
    Array<char> waiting;
    std::int64_t head = 0, tail = 0;
    std::int32_t size = 0;

    bool empty() const { return size == 0; }

    void push(std::int32_t i) {
        if (waiting[i]) return;
        waiting[i] = 1;
        size++;
        rows[tail] = i;
        tail = tail + 1 == rows.count() ? 0 : tail + 1;
    }

    std::int32_t pop() {
        size--;
        std::int32_t i = rows[head];
        head = head + 1 == rows.count() ? 0 : head + 1;
        waiting[i] = 0;
        return i;
    }
};

}  // namespace

Array<std::int32_t> loose_rows(Work& w) {
    const Timed timed(w.watch, w.stats.seconds.repair);
    Array<std::int32_t> loose;
    for (std::int32_t i = 0; i < w.n; i++) {
        std::int32_t j = w.x[i];
        if (j < 0) continue;
        if (is_loose(w, i, j)) loose.push_back(i);
    }
    return loose;
}

bool push_prices(Work& w, const Array<std::int32_t>& loose) {
    const Timed timed(w.watch, w.stats.seconds.repair);
    Queue queue(w.n);
    Array<std::int32_t> visited = filled(w.n, 0);
    for (std::int32_t i : loose) queue.push(i);
    std::int32_t freed = 0;
    for (std::int32_t round = 0, count = 0; !queue.empty(); count++) {
        if (count == w.n) {
            if (++round == kRounds || queue.size > (round == 1 ? kWaitingFirst : kWaiting) * w.n) return false;
            count = 0;
        }
        std::int32_t i = queue.pop(), j = w.x[i];
        if (++visited[i] > kVisits) {
            w.free_row(i);
            if (++freed > kFreed * w.n) return false;
            continue;
        }
        double v = w.value(i, j);
        std::int32_t below = w.columns_within(w.storage(i), v, w.m);
        for (std::int32_t h = 0; h < below; h++) {
            std::int32_t k = w.hit[h];
            double price = v - w.rows.cost(i, k);
            if (k == j || !(price > w.p[k])) continue;
            w.set_price(k, price);
            std::int32_t owner = w.y[k];
            if (owner >= 0) queue.push(owner);
        }
    }
    return true;
}

}  // namespace loomfast::assignment
