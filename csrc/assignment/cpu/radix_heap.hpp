// A heap for Dijkstra's search, in which nothing is pushed below what was popped last.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace loomfast::assignment {

// Ahuja, Mehlhorn, Orlin and Tarjan, "Faster algorithms for the shortest path problem", Journal of the ACM 37(2), 1990,
// section 3, on the bits of nonnegative doubles, which are ordered as the numbers are. An item lies in the bucket of
// the highest bit in which its key differs from the last one popped; buckets are read and written in order, which
// caches like better than a tree.
class RadixHeap {
public:
    void clear() {
        for (std::uint64_t left = filled_; left; left &= left - 1)
            buckets_[std::size_t(std::countr_zero(left)) + 1].clear();
        buckets_[0].clear();
        filled_ = 0;
        last_ = 0;
    }

    bool empty() const { return filled_ == 0 && buckets_[0].empty(); }

    void push(double d, std::int32_t j) { put({std::bit_cast<std::uint64_t>(d), j}); }

    std::pair<double, std::int32_t> pop() {
        if (buckets_[0].empty()) refill();
        const Item item = buckets_[0].back();
        buckets_[0].pop_back();
        return {std::bit_cast<double>(item.key), item.j};
    }

private:
    struct Item {
        std::uint64_t key;
        std::int32_t j;
    };

    void put(Item item) {
        if (item.key == last_) return buckets_[0].push_back(item);
        const int bit = 63 - std::countl_zero(item.key ^ last_);
        buckets_[std::size_t(bit) + 1].push_back(item);
        filled_ |= std::uint64_t{1} << bit;
    }

    void refill() {
        const int bit = std::countr_zero(filled_);
        std::vector<Item>& bucket = buckets_[std::size_t(bit) + 1];
        filled_ &= filled_ - 1;
        last_ = bucket[0].key;
        for (const Item& item : bucket)
            if (item.key < last_) last_ = item.key;
        for (const Item& item : bucket) put(item);  // all of them lower than this bucket
        bucket.clear();
    }

    std::vector<Item> buckets_[65];
    std::uint64_t filled_ = 0, last_ = 0;
};

}  // namespace loomfast::assignment
