#include "assignment/cpu/points_product.hpp"

namespace loomfast::assignment {

std::vector<double> ProductSource::norms(const float* points, std::int64_t count) const {
    std::vector<double> found(count);
    for (std::int64_t i = 0; i < count; ++i) {
        double sum = 0.0;
        for (int k = 0; k < cost_.d; ++k) sum += double{points[i * cost_.d + k]} * double{points[i * cost_.d + k]};
        found[i] = std::sqrt(sum);
    }
    return found;
}

// By how much a squared distance, or a dot product, may be below what the product says.
double ProductSource::error(std::int64_t row) const {
    const double terms = (cost_.d + 2) * kUnit, gamma = terms / (1.0 - terms);
    const double own = row_norm_[row], sum = own + most_norm_;
    const double underflow = cost_.d * 0x1p-140;
    if (cost_.metric == Metric::dot) return 1.01 * (gamma + 2.0 * kUnit) * own * most_norm_ + underflow;
    return 1.01 * (2.0 * gamma * own * most_norm_ + 2.0 * kUnit * sum * sum) + underflow;
}

// The least that the costs of some columns can be, with their prices, from the products that are theirs.
template <Metric M>
void ProductSource::from_below(double own, double error, std::int64_t first, std::int64_t past, const float* products,
                               double* values) const {
    for (std::int64_t j = first; j < past; ++j) {
        const double product = products[j - first];
        if constexpr (M == Metric::dot) {
            values[j - first] = product_.unscale * (-product - error) + price_[j];
        } else {
            const double square = own + column_square_[j] - 2.0 * product - error;
            const double least = product_.unscale * (square > 0.0 ? square : 0.0);
            values[j - first] = (M == Metric::euclidean ? std::sqrt(least) : least) + price_[j];
        }
    }
}

// Until it is settled, `costs` are the bounds with the prices, ascending, and `bound` the next.
template <Metric M>
void ProductSource::select(std::int64_t row, std::int64_t first, std::int64_t past, const float* products,
                           Cached& cached) const {
    constexpr std::int64_t kPart = 64;
    double values[kPart];
    const double off = error(row), own = row_norm_[row] * row_norm_[row];
    for (std::int64_t begin = first; begin < past; begin += kPart) {
        const std::int64_t end = std::min(begin + kPart, past);
        from_below<M>(own, off, begin, end, products + (begin - first), values);
        for (std::int64_t j = begin; j < end; ++j)
            if (values[j - begin] < cached.bound) insert(cached, static_cast<std::int32_t>(j), values[j - begin]);
    }
}

// A bound below the cached one, into its place; what leaves the cache bounds the rest.
void ProductSource::insert(Cached& cached, std::int32_t column, double value) {
    int place = cached.count;
    if (cached.count == kCached) {
        if (value >= cached.costs[kCached - 1]) {
            cached.bound = value;
            return;
        }
        cached.bound = cached.costs[--place];
    } else {
        ++cached.count;
    }
    for (; place > 0 && cached.costs[place - 1] > value; --place) {
        cached.costs[place] = cached.costs[place - 1];
        cached.columns[place] = cached.columns[place - 1];
    }
    cached.costs[place] = value;
    cached.columns[place] = column;
}

// From bounds to costs; where they do not tell which column is cheapest, all costs are computed.
void ProductSource::settle(std::int64_t row, Cached& cached) const {
    double first = PriceTree<0>::kInf;
    for (int k = 0; k < cached.count; ++k) {
        cached.costs[k] = cost(row, cached.columns[k]);
        first = std::min(first, cached.costs[k] + price_[cached.columns[k]]);
    }
    cached.bound -= std::fabs(cached.bound) * 0x1p-48;  // of the few roundings of a bound
    if (first > cached.bound) scan_exactly(row, cached);
}

void ProductSource::scan_exactly(std::int64_t row, Cached& cached) const {
    const int most = static_cast<int>(std::min<std::int64_t>(kCached + 1, columns()));
    std::vector<std::int32_t> found(most);
    std::vector<double> values(most);
    const Found count = search(static_cast<std::int32_t>(row), most, found.data(), values.data());
    cached.count = std::min(count.count, kCached);
    cached.bound = count.count > kCached ? values[kCached] : count.bound;
    for (int k = 0; k < cached.count; ++k) {
        cached.columns[k] = found[k];
        cached.costs[k] = cost(row, found[k]);
    }
}

template <class Place>
void ProductSource::scan_block(std::span<const std::int32_t> rows, const Place& place) const {
    const auto count = static_cast<std::int64_t>(rows.size());
    if (count == 0) return;
    const std::int64_t width = std::min(kProducts / count, columns());
    std::vector<float> products(count * width);
    for (std::int64_t k = 0; k < count; ++k) {
        place(k).count = 0;
        place(k).bound = PriceTree<0>::kInf;
    }
    for (std::int64_t first = 0; first < columns(); first += width) {
        const std::int64_t past = std::min(first + width, columns());
        product_.multiply(rows, first, past, products.data());
        run_chunks(count, 16, threads_, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t k = begin; k < end; ++k) {
                const float* own = &products[k * (past - first)];
                switch (cost_.metric) {
                    case Metric::sqeuclidean: select<Metric::sqeuclidean>(rows[k], first, past, own, place(k)); break;
                    case Metric::euclidean: select<Metric::euclidean>(rows[k], first, past, own, place(k)); break;
                    case Metric::dot: select<Metric::dot>(rows[k], first, past, own, place(k)); break;
                }
            }
        });
    }
    run_chunks(count, 16, threads_, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k) settle(rows[k], place(k));
    });
}

void ProductSource::scan(std::span<const std::int32_t> rows, std::vector<Cached>& cached) const {
    for (std::size_t first = 0; first < rows.size(); first += kBatch) {
        const auto block = rows.subspan(first, std::min<std::size_t>(kBatch, rows.size() - first));
        scan_block(block, [&](std::int64_t k) -> Cached& { return cached[block[k]]; });
    }
}

Found ProductSource::search(std::int32_t row, int most, std::int32_t* columns, double* values) const {
    const std::int64_t count = this->columns();
    std::vector<double> all(count);
    for (std::int64_t j = 0; j < count; ++j) all[j] = (row == kSpare ? 0.0 : cost(row, j)) + price_[j];
    std::vector<std::int32_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + most, order.end(), [&](std::int32_t a, std::int32_t b) {
        return all[a] < all[b] || (all[a] == all[b] && a < b);
    });
    for (int k = 0; k < most; ++k) {
        columns[k] = order[k];
        values[k] = all[order[k]];
    }
    return most < count ? Found{most - 1, values[most - 1]} : Found{most, PriceTree<0>::kInf};
}

// Of every row.
void ProductSource::least(std::vector<double>& u) const {
    std::vector<Cached> cached(std::min(kBatch, rows()));
    std::vector<std::int32_t> block;
    for (std::int64_t first = 0; first < rows(); first += kBatch) {
        block.resize(std::min(kBatch, rows() - first));
        std::iota(block.begin(), block.end(), static_cast<std::int32_t>(first));
        scan_block(block, [&](std::int64_t k) -> Cached& { return cached[k]; });
        for (std::size_t k = 0; k < block.size(); ++k) {
            double least = PriceTree<0>::kInf;
            for (int l = 0; l < cached[k].count; ++l)
                least = std::min(least, cached[k].costs[l] + price_[cached[k].columns[l]]);
            u[first + static_cast<std::int64_t>(k)] = least;
        }
    }
}

}  // namespace loomfast::assignment
