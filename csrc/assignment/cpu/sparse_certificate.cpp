#include "assignment/cpu/sparse_certificate.hpp"

#include <algorithm>
#include <cmath>

namespace loomfast::assignment {

namespace {

constexpr double kInf = SparseState::kInf;

// The prices above the least of them, or above the floor: multiples of the least number of the caller's float64.
std::vector<double> prices_above(const SparseState& s) {
    std::vector<double> price(s.p.size());
    double least = s.floor;
    if (!s.wide()) least = price.empty() ? 0.0 : *std::min_element(s.p.begin(), s.p.end());
    const double unit = 0x1p-1074 * s.g.factor;
    for (std::size_t j = 0; j < price.size(); j++) {
        double p = std::max(s.price(std::int32_t(j)) - least, 0.0);
        if (s.y[j] < 0 && s.wide()) p = 0.0;
        if (p < 0x1p52 * unit) p = std::rint(p / unit) * unit;
        price[j] = p;
    }
    return price;
}

// The least value in exact arithmetic is one of the least when rounded.
TwoSum least_value(const SparseState& s, const std::vector<double>& price, std::int32_t i) {
    const std::int64_t begin = s.g.first[std::size_t(i)], end = s.g.first[std::size_t(i) + 1];
    const double *cost = s.g.cost.data(), *prices = price.data();
    const std::int32_t* columns = s.g.column.data();
    TwoSum least(kInf, 0.0);
    for (std::int64_t e = begin; e < end; e++) least.sum = std::min(least.sum, cost[e] + prices[columns[e]]);
    least.error = kInf;
    for (std::int64_t e = begin; e < end; e++) {
        const TwoSum value(cost[e], prices[columns[e]]);
        if (value.sum == least.sum) least.error = std::min(least.error, value.error);
    }
    return least;
}

// Duals that the caller's float64 does not hold are cut to the largest that it does, where they stay feasible.
void cut(const SparseState& s, std::vector<double>& price, std::vector<double>& u) {
    const double most = std::numeric_limits<double>::max() * s.g.factor;
    for (double& p : price) p = std::min(p, most);
    for (std::int32_t i = 0; i < s.g.n; i++) u[std::size_t(i)] = std::min(least_value(s, price, i).down(), most);
}

}  // namespace

Certificate certify_sparse(const SparseState& s, std::vector<double>& price, std::vector<double>& u) {
    price = prices_above(s);
    u.resize(std::size_t(s.g.n));
    Certificate found;
    double high = 0.0, low = 0.0;
    for (std::int32_t i = 0; i < s.g.n; i++) {
        const double bound = least_value(s, price, i).down(), cost = s.cost(s.entry[std::size_t(i)]);
        const double own = price[std::size_t(s.x[std::size_t(i)])];
        u[std::size_t(i)] = bound;
        // Nonnegative terms, which vanish for tight pairs: nothing is lost to cancellation.
        const TwoSum value(cost, own), slack(value.sum, -bound);
        found.gap = TwoSum(found.gap, slack.sum).up();
        found.gap = TwoSum(found.gap, TwoSum(slack.error, value.error).up()).up();
        const TwoSum running(high, cost);
        high = running.sum;
        low += running.error;
        found.matched = std::max(found.matched, std::fabs(cost));
        found.duals = std::max({found.duals, std::fabs(bound), own});
    }
    found.total = high + low;
    if (s.g.factor < 1.0 && found.duals > std::numeric_limits<double>::max() * s.g.factor) cut(s, price, u);
    found.gap = std::isnan(found.gap) ? kInf : std::max(found.gap, 0.0);
    return found;
}

}  // namespace loomfast::assignment
