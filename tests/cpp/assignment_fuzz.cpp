// Fuzzes the C++ interface: assignment_fuzz [cases] [seed] [first case]. Random shapes, dtypes, strides,
// signs, repeats, forbidden and invalid entries, sentinels, scales from denormal to overflow, ties, garbage starts,
// tolerances, callers' arithmetic and instruction sets; outputs are poisoned first. Every answer is checked against
// its own certificate in long double, and small ones against brute force. Built with ASan and UBSan by the tests;
// exits 1 at the first wrong answer.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "threads/arithmetic.hpp"
#include "assignment/assignment.hpp"
#include "simd/target.hpp"

namespace lap = loomfast::assignment;

namespace {

#if defined(__aarch64__)
constexpr loomfast::arithmetic::Control kFlush = 1u << 24;
#else
constexpr loomfast::arithmetic::Control kFlush = 0x9fc0;
#endif

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Case {
    std::mt19937_64 random;
    std::vector<unsigned char> memory;
    std::vector<double> entries;  // n x m, as the solver should see them
    lap::Cost cost;
    lap::Options options;
    std::vector<std::int64_t> start_matching;
    std::vector<double> start_u, start_v;
    double sentinel = 0.0;

    std::uint64_t below(std::uint64_t bound) { return random() % bound; }
    bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
    double uniform() { return static_cast<double>(random() >> 11) * 0x1p-53; }
};

double draw(Case& c, int family, double scale) {
    switch (family) {
        case 0: return scale * c.uniform();
        case 1: return static_cast<double>(c.below(3));
        case 2: return static_cast<double>(c.below(1000)) - 500;
        case 3: return scale * std::exp(10 * c.uniform() - 5);
        case 4: return 1e6 + c.uniform();
        case 5: return c.chance(10) ? 1e9 : c.uniform();
        case 6: return c.chance(3) ? c.sentinel : c.uniform();
        case 7: return scale * std::exp2(static_cast<double>(c.below(1900)) - 950);
        default: return 3.25;
    }
}

template <class T>
void store(Case& c, std::size_t entry, std::size_t offset, double x) {
    T t;
    if constexpr (std::is_integral_v<T>) {
        double low = static_cast<double>(std::numeric_limits<T>::lowest()), high = 0x1p30;
        high = std::min(high, static_cast<double>(std::numeric_limits<T>::max()));
        low = std::max(low, -0x1p30);
        t = static_cast<T>(std::clamp(std::isfinite(x) ? std::floor(x) : 7.0, low, high));
    } else {
        t = static_cast<T>(x);
    }
    std::memcpy(c.memory.data() + offset, &t, sizeof t);
    c.entries[entry] = static_cast<double>(t);
}

void store_any(Case& c, std::size_t entry, std::size_t offset, double x) {
    switch (c.cost.dtype) {
        case lap::DType::int8: return store<std::int8_t>(c, entry, offset, x);
        case lap::DType::int32: return store<std::int32_t>(c, entry, offset, x);
        case lap::DType::int64: return store<std::int64_t>(c, entry, offset, x);
        case lap::DType::uint16: return store<std::uint16_t>(c, entry, offset, x);
        case lap::DType::float32: return store<float>(c, entry, offset, x);
        default: return store<double>(c, entry, offset, x);
    }
}

bool make_case(Case& c) {
    constexpr lap::DType types[] = {lap::DType::int8,    lap::DType::int32,   lap::DType::int64,  lap::DType::uint16,
                                    lap::DType::float32, lap::DType::float32, lap::DType::float64};
    constexpr std::int64_t sizes[] = {1, 2, 4, 8, 2, 4, 8};
    std::int64_t most = c.chance(20) ? 140 : c.chance(4) ? 48 : 9;
    const bool skinny = c.chance(30);
    auto pick = c.below(7);
    c.cost.dtype = types[pick];
    std::int64_t size = pick == 6 ? 8 : pick >= 4 ? 4 : pick == 3 ? 2 : sizes[pick == 0 ? 0 : pick == 1 ? 2 : 3];
    c.cost.rows = static_cast<std::int64_t>(c.below(static_cast<std::uint64_t>(most) + 1));
    c.cost.cols = c.chance(2) ? c.cost.rows : static_cast<std::int64_t>(c.below(static_cast<std::uint64_t>(most) + 1));
    if (skinny) c.cost.rows = 1 + c.cost.rows % 4, c.cost.cols = 100 * c.cost.rows + c.cost.cols;
    c.cost.row_repeats = c.chance(6) ? static_cast<std::int64_t>(1 + c.below(4)) : 1;
    c.cost.maximize = c.chance(4);
    std::int64_t n = c.cost.rows, m = c.cost.cols, step = c.chance(3) ? 2 : 1, skew = c.chance(8) ? 1 : 0;
    bool column_major = c.chance(3);
    c.cost.row_stride = (column_major ? step : m * step) * size + (column_major ? 0 : skew);
    c.cost.col_stride = (column_major ? n * step * size + skew : step * size);
    c.memory.assign(static_cast<std::size_t>(n * std::abs(c.cost.row_stride) + m * std::abs(c.cost.col_stride) + size), 0xa5);
    c.cost.data = c.memory.data();
    c.entries.assign(static_cast<std::size_t>(n * m), 0.0);
    int family = static_cast<int>(c.below(9));
    constexpr double scales[] = {1e30, 1e-30, 1e-310, 1.7e308}, sentinels[] = {1e12, 1e15, -1e15, 1e100, 1.7e308};
    double scale = c.chance(6) ? scales[c.below(family == 7 ? 2 : 4)] : 1.0;
    c.sentinel = sentinels[c.below(5)];
    double forbidden = c.chance(4) ? c.uniform() : 0.0;
    bool invalid = c.chance(40);
    bool low_rank = c.chance(6);
    std::vector<double> a(static_cast<std::size_t>(n)), b(static_cast<std::size_t>(m));
    for (double& x : a) x = c.uniform();
    for (double& x : b) x = c.uniform();
    bool any_invalid = false;
    for (std::int64_t i = 0; i < n; i++)
        for (std::int64_t j = 0; j < m; j++) {
            double x = low_rank ? a[static_cast<std::size_t>(i)] * b[static_cast<std::size_t>(j)] : draw(c, family, scale);
            if (c.uniform() < forbidden) x = c.cost.maximize ? -kInf : kInf;
            if (invalid && c.chance(10)) x = c.chance(2) ? std::nan("") : c.cost.maximize ? kInf : -kInf;
            auto offset = static_cast<std::size_t>(i * c.cost.row_stride + j * c.cost.col_stride);
            store_any(c, static_cast<std::size_t>(i * m + j), offset, x);
            double seen = c.entries[static_cast<std::size_t>(i * m + j)];
            any_invalid |= std::isnan(seen) || seen == (c.cost.maximize ? kInf : -kInf);
        }
    std::int64_t rows = c.cost.problem_rows();
    if (c.chance(3)) {
        for (std::int64_t i = 0; i < rows; i++) {
            c.start_matching.push_back(static_cast<std::int64_t>(c.below(static_cast<std::uint64_t>(m) + 3)) - 1);
            c.start_u.push_back(c.chance(30) ? kInf : draw(c, family, scale));
        }
        for (std::int64_t j = 0; j < m; j++) c.start_v.push_back(c.chance(30) ? std::nan("") : -draw(c, family, scale));
        c.options.start_col4row = c.start_matching.data();
        c.options.start_u = c.start_u.data();
        c.options.start_v = c.start_v.data();
    }
    if (c.chance(5)) c.options.tolerance = std::exp(-10 * c.uniform());
    const std::vector<loomfast::simd::Target> targets = loomfast::simd::targets();
    loomfast::simd::use(targets[c.below(targets.size())]);
    return any_invalid;
}

// Whether a matching of min(n, m) allowed pairs exists (augmenting paths).
bool feasible(const Case& c) {
    std::int64_t n = c.cost.problem_rows(), m = c.cost.cols;
    std::vector<std::int64_t> owner(static_cast<std::size_t>(m), -1);
    std::vector<char> seen;
    auto augment = [&](auto& self, std::int64_t i) -> bool {
        for (std::int64_t j = 0; j < m; j++) {
            auto k = static_cast<std::size_t>(j);
            double x = c.entries[static_cast<std::size_t>(i / c.cost.row_repeats * m + j)];
            if (seen[k] || std::isinf(x)) continue;
            seen[k] = 1;
            if (owner[k] < 0 || self(self, owner[k])) {
                owner[k] = i;
                return true;
            }
        }
        return false;
    };
    std::int64_t matched = 0;
    for (std::int64_t i = 0; i < n; i++) {
        seen.assign(static_cast<std::size_t>(m), 0);
        matched += augment(augment, i);
    }
    return matched == std::min(n, m);
}

const char* check(const Case& c, const lap::Output& out, const std::vector<std::int64_t>& x,
                  const std::vector<std::int64_t>& y, const std::vector<double>& u, const std::vector<double>& v) {
    std::int64_t n = c.cost.problem_rows(), m = c.cost.cols, matched = 0;
    long double total = 0, dual = 0, sign = c.cost.maximize ? -1 : 1, size = 0;
    double largest = 0;  // magnitude of a matched cost or a dual price
    for (std::int64_t i = 0; i < n; i++) {
        std::int64_t j = x[static_cast<std::size_t>(i)];
        if (j < -1 || j >= m) return "column out of range";
        if (j < 0) continue;
        if (y[static_cast<std::size_t>(j)] != i) return "col4row and row4col disagree";
        matched++;
        double e = c.entries[static_cast<std::size_t>(i / c.cost.row_repeats * m + j)];
        total += e;
        largest = std::max(largest, std::fabs(e));
    }
    if (matched != std::min(n, m)) return "matching is not complete";
    for (std::int64_t j = 0; j < m; j++)
        if (y[static_cast<std::size_t>(j)] < -1 || y[static_cast<std::size_t>(j)] >= n) return "row out of range";
    for (const auto* side : {&u, &v})
        for (double a : *side) {
            if (!std::isfinite(a)) return "a dual price is not finite";
            dual += a;
            size += std::fabs(a);
            largest = std::max(largest, std::fabs(a));
        }
    for (std::int64_t i = 0; i < n; i++)
        for (std::int64_t j = 0; j < m; j++) {
            long double e = c.entries[static_cast<std::size_t>(i / c.cost.row_repeats * m + j)];
            long double slack = sign * (e - u[static_cast<std::size_t>(i)] - v[static_cast<std::size_t>(j)]);
            if (!(slack >= -0x1p-60L * (std::fabs(u[static_cast<std::size_t>(i)]) + std::fabs(v[static_cast<std::size_t>(j)]))))
                return "prices are infeasible";
        }
    const auto& longer = n <= m ? v : u;
    const auto& longer_match = n <= m ? y : x;
    for (std::size_t k = 0; k < longer.size(); k++)
        if (sign * longer[k] > 0 || (longer_match[k] < 0 && longer[k] != 0)) return "price sign";
    long double gap = sign * (total - dual);
    bool integers = c.cost.dtype < lap::DType::float16;
    // Duals cut to what float64 holds prove less than the gap says.
    const bool cut = largest == std::numeric_limits<double>::max();
    if (!integers && !cut && out.gap < gap - 0x1p-58L * size - 0x1p-1074L) return "gap is not a bound";
    long double bound = integers ? 0.0L : 8.0L * static_cast<long double>(std::min(n, m)) * 0x1p-53L * largest + 0x1p-1074L;
    if (out.status == lap::Status::optimal && !(out.gap <= bound)) return "gap exceeds the exactness bound";
    if (out.status == lap::Status::within_tolerance && c.options.tolerance == 0) return "stopped early";
    const bool overflown = std::fabs(total) > std::numeric_limits<double>::max() && out.total == (total > 0 ? kInf : -kInf);
    if (!overflown && !(std::fabs(static_cast<long double>(out.total) - total) <= 0x1p-50L * (size + std::fabs(total)) + 0x1p-1074L))
        return "total";
    return nullptr;
}

const char* run(Case& c) {
    bool invalid = make_case(c);
    auto n = static_cast<std::size_t>(c.cost.problem_rows()), m = static_cast<std::size_t>(c.cost.cols);
    std::vector<std::int64_t> x(n, 1 << 30), y(m, 1 << 30);
    std::vector<double> u(n, std::nan("")), v(m, std::nan(""));
    lap::Output out{x.data(), y.data(), u.data(), v.data()};
    // Callers flush denormal numbers, some of them (torch.set_flush_denormal, -ffast-math).
    if (c.random() % 4 == 0) loomfast::arithmetic::set_control(kFlush);
    lap::solve(c.cost, c.options, out);
    loomfast::arithmetic::set_control(loomfast::arithmetic::kDefault);
    if (invalid != (out.status == lap::Status::invalid_entry)) return "validity";
    if (invalid) return nullptr;
    bool possible = feasible(c);
    if (possible == (out.status == lap::Status::infeasible)) return "feasibility";
    if (!possible) return nullptr;
    if (out.status != lap::Status::optimal && out.status != lap::Status::within_tolerance) return "status";
    return check(c, out, x, y, u, v);
}

}  // namespace

int main(int argc, char** argv) {
    long cases = argc > 1 ? std::atol(argv[1]) : 2000, seed = argc > 2 ? std::atol(argv[2]) : 0;
    long first = argc > 3 ? std::atol(argv[3]) : 0;
    for (long k = first; k < cases; k++) {
        Case c;
        c.random.seed(static_cast<std::uint64_t>(seed * 1000003 + k));
        if (const char* wrong = run(c)) {
            std::printf("case %ld of seed %ld: %s (%ld x %ld, dtype %d, repeats %ld)\n", k, seed, wrong, long(c.cost.rows),
                        long(c.cost.cols), int(c.cost.dtype), long(c.cost.row_repeats));
            return 1;
        }
    }
    std::printf("%ld cases passed\n", cases - first);
    return 0;
}
