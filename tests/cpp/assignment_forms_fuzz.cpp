// Fuzzes the other forms of the assignment: assignment_forms_fuzz [cases] [seed] [first case]. Sparse graphs in every
// layout with duplicates, forbidden and invalid entries, wrong indices and garbage starts, against their own
// certificates, Hall's condition and the dense solver; the k best and bottleneck matchings against brute force; matchings
// whose unmatched pay against the padded problem, in batches of different sizes.
// Outputs are poisoned first. Built with ASan and UBSan by the tests; exits 1 at the first wrong answer.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "assignment/bottleneck.hpp"
#include "assignment/k_best.hpp"
#include "assignment/sparse.hpp"

namespace lap = loomfast::assignment;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Random {
    std::mt19937_64 engine;
    std::int64_t below(std::int64_t bound) { return std::int64_t(engine() % std::uint64_t(bound)); }
    bool chance(std::int64_t one_in) { return below(one_in) == 0; }
    double uniform() { return double(engine() >> 11) * 0x1p-53; }
};

double draw(Random& r, std::int64_t family) {
    switch (family) {
        case 0: return r.uniform();
        case 1: return double(r.below(3));
        case 2: return double(r.below(1000)) - 500;
        case 3: return std::exp(20 * r.uniform() - 10);
        case 4: return 1e6 + r.uniform();
        case 5: return r.chance(4) ? 1e15 : r.uniform();
        case 6: return 1.7e308 * (r.uniform() - 0.5);
        case 7: return 1e-310 * r.uniform();
        default: return -2.5;
    }
}

struct Sparse {
    std::int64_t n = 0, m = 0;
    std::vector<std::int64_t> row, col;  // in the order in which they are stored
    std::vector<double> value;
    std::map<std::pair<std::int64_t, std::int64_t>, double> of;
    bool maximize = false, integers = false, invalid = false;
};

Sparse make_sparse(Random& r) {
    Sparse s;
    const std::int64_t most = r.chance(20) ? 120 : r.chance(3) ? 30 : 7, family = r.below(9);
    s.n = r.below(most + 1);
    s.m = r.chance(2) ? s.n : r.below(most + 1);
    s.maximize = r.chance(4);
    s.integers = r.chance(5) && family != 6;
    const double density = r.chance(3) ? 2.5 / double(std::max<std::int64_t>(1, s.m)) : r.uniform();
    const bool duplicates = r.chance(6), forbidden = r.chance(5), bad = r.chance(30), hidden = !r.chance(4);
    std::vector<std::int64_t> permutation(std::size_t(std::max(s.n, s.m)));
    for (std::size_t k = 0; k < permutation.size(); k++) permutation[k] = std::int64_t(k);
    std::shuffle(permutation.begin(), permutation.end(), r.engine);
    for (std::int64_t i = 0; i < s.n; i++)
        for (std::int64_t j = 0; j < s.m; j++) {
            const bool by_row = s.n <= s.m;
            const bool kept = hidden && permutation[std::size_t(by_row ? i : j)] == (by_row ? j : i);
            if (!kept && r.uniform() >= density) continue;
            for (std::int64_t copies = duplicates ? 1 + r.below(3) : 1; copies > 0; copies--) {
                double x = draw(r, family);
                if (s.integers) x = std::floor(std::clamp(x, -1e9, 1e9));
                if (!s.integers && forbidden && r.chance(5)) x = s.maximize ? -kInf : kInf;
                if (!s.integers && bad && r.chance(8)) x = r.chance(2) ? std::nan("") : s.maximize ? kInf : -kInf;
                s.row.push_back(i);
                s.col.push_back(j);
                s.value.push_back(x);
            }
        }
    return s;
}

// The caller's arrays in one of the layouts.
struct Stored {
    lap::SparseCost cost;
    std::vector<std::int64_t> major, minor;
    std::vector<std::int32_t> narrow_major, narrow_minor;
    std::vector<double> data;
    std::vector<std::int64_t> integers;
};

void store(Random& r, Sparse& s, Stored& t) {
    std::vector<std::size_t> order(s.row.size());
    for (std::size_t k = 0; k < order.size(); k++) order[k] = k;
    if (r.chance(2)) std::shuffle(order.begin(), order.end(), r.engine);
    t.cost.layout = static_cast<lap::Layout>(r.below(3));
    const bool coordinates = t.cost.layout == lap::Layout::coordinates;
    const bool by_column = t.cost.layout == lap::Layout::compressed_columns;
    const auto& line = by_column ? s.col : s.row;
    const auto& other = by_column ? s.row : s.col;
    if (!coordinates)
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return line[a] < line[b]; });
    if (!coordinates) t.major.assign(std::size_t(by_column ? s.m : s.n) + 1, 0);
    for (const std::size_t k : order) {
        if (coordinates) t.major.push_back(line[k]);
        else t.major[std::size_t(line[k]) + 1]++;
        t.minor.push_back(other[k]);
        t.data.push_back(s.value[k]);
        const auto [at, fresh] = s.of.try_emplace({s.row[k], s.col[k]}, s.value[k]);
        if (!fresh) at->second += s.value[k];
    }
    for (const auto& [pair, x] : s.of) s.invalid |= !((s.maximize ? -x : x) > -kInf);
    if (!coordinates)
        for (std::size_t k = 1; k < t.major.size(); k++) t.major[k] += t.major[k - 1];
    t.integers.assign(t.data.size(), 0);
    if (s.integers)
        for (std::size_t k = 0; k < t.data.size(); k++) t.integers[k] = std::int64_t(t.data[k]);
    t.narrow_major.assign(t.major.begin(), t.major.end());
    t.narrow_minor.assign(t.minor.begin(), t.minor.end());
    const bool wide = r.chance(2);
    t.cost.data = s.integers ? static_cast<const void*>(t.integers.data()) : t.data.data();
    t.cost.dtype = s.integers ? lap::DType::int64 : lap::DType::float64;
    t.cost.major = {wide ? static_cast<const void*>(t.major.data()) : t.narrow_major.data(), wide};
    t.cost.minor = {wide ? static_cast<const void*>(t.minor.data()) : t.narrow_minor.data(), wide};
    t.cost.rows = s.n;
    t.cost.cols = s.m;
    t.cost.entries = std::int64_t(t.data.size());
    t.cost.maximize = s.maximize;
}

const char* check_blocked(const Sparse& s, const lap::SparseOutput& out) {
    if (out.crowded.size() <= out.neighbours.size()) return "no fewer neighbours than lines";
    const std::set<std::int64_t> lines(out.crowded.begin(), out.crowded.end());
    const std::set<std::int64_t> others(out.neighbours.begin(), out.neighbours.end());
    if (lines.size() != out.crowded.size()) return "a line twice";
    for (const auto& [pair, x] : s.of) {
        const auto [line, other] = s.n <= s.m ? pair : std::pair(pair.second, pair.first);
        if (std::isfinite(x) && lines.count(line) && !others.count(other)) return "a neighbour is missing";
    }
    return nullptr;
}

using Matching = std::vector<std::int64_t>;
using Prices = std::vector<double>;

const char* check_sparse(const Sparse& s, const lap::SparseOutput& out, const Matching& x, const Matching& y,
                         const Prices& u, const Prices& v) {
    long double total = 0, dual = 0, size = 0;
    const long double sign = s.maximize ? -1 : 1;
    double largest = 0;
    std::int64_t matched = 0;
    for (std::int64_t i = 0; i < s.n; i++) {
        const std::int64_t j = x[std::size_t(i)];
        if (j == -1) continue;
        const auto found = s.of.find({i, j});
        if (found == s.of.end() || !std::isfinite(found->second)) return "a pair that is not stored";
        if (y[std::size_t(j)] != i) return "col4row and row4col disagree";
        total += found->second;
        largest = std::max(largest, std::fabs(found->second));
        matched++;
    }
    if (matched != std::min(s.n, s.m)) return "matching is not complete";
    if (std::count(y.begin(), y.end(), -1) != s.m - matched) return "row4col";
    for (const auto* side : {&u, &v})
        for (const double a : *side) {
            if (!std::isfinite(a)) return "a dual price is not finite";
            dual += a;
            size += std::fabs(a);
            largest = std::max(largest, std::fabs(a));
        }
    for (const auto& [pair, c] : s.of) {
        if (!std::isfinite(c)) continue;
        const double a = u[std::size_t(pair.first)], b = v[std::size_t(pair.second)];
        if (!(sign * (static_cast<long double>(c) - a - b) >= -0x1p-60L * (std::fabs(a) + std::fabs(b))))
            return "prices are infeasible";
    }
    const auto& longer = s.n <= s.m ? v : u;
    const auto& partner = s.n <= s.m ? y : x;
    for (std::size_t k = 0; k < longer.size(); k++)
        if (sign * longer[k] > 0 || (partner[k] < 0 && longer[k] != 0)) return "price sign";
    const bool cut = largest == std::numeric_limits<double>::max();
    const long double gap = sign * (total - dual);
    if (!s.integers && !cut && out.gap < gap - 0x1p-58L * size - 0x1p-1074L) return "gap is not a bound";
    const long double bound = s.integers ? 0 : 8.0L * std::min(s.n, s.m) * 0x1p-53L * largest + 0x1p-1074L;
    if (!(out.gap <= bound)) return "gap exceeds the exactness bound";
    const bool overflown = std::fabs(total) > std::numeric_limits<double>::max();
    const long double rounding = 0x1p-50L * (size + std::fabs(total)) + 0x1p-1074L;
    if (!overflown && !(std::fabs(out.total - total) <= rounding)) return "total";
    return nullptr;
}

// Indices that lead outside are found, whatever they are.
const char* run_damaged(Random& r, Stored& t) {
    auto& part = r.chance(2) ? t.major : t.minor;
    if (part.empty()) return nullptr;
    auto& damaged = part[std::size_t(r.below(std::int64_t(part.size())))];
    const std::int64_t before = damaged;
    const std::int64_t large = (std::int64_t{1} << r.below(62)) + t.cost.entries + t.cost.rows + t.cost.cols;
    damaged = r.chance(2) ? -1 - r.below(1000) : large;
    t.cost.major = {t.major.data(), true};
    t.cost.minor = {t.minor.data(), true};
    lap::SparseOutput out;
    lap::solve_sparse(t.cost, {}, out);
    damaged = before;
    return out.status == lap::Status::invalid_entry && out.fault[0] ? nullptr : "damaged indices were taken";
}

const char* run_sparse(Random& r) {
    Sparse s = make_sparse(r);
    Stored t;
    store(r, s, t);
    const auto n = std::size_t(s.n), m = std::size_t(s.m);
    std::vector<std::int64_t> x(n, 1 << 30), y(m, 1 << 30), start(n);
    std::vector<double> u(n, std::nan("")), v(m, std::nan("")), start_u(n), start_v(m);
    lap::SparseOutput out;
    out.col4row = x.data();
    out.row4col = y.data();
    out.u = u.data();
    out.v = v.data();
    lap::Options options;
    if (r.chance(3)) {
        const double scale = r.chance(2) ? 1 : 1e3;
        for (auto& j : start) j = r.below(s.m + 3) - 1;
        for (auto& p : start_u) p = r.chance(30) ? kInf : scale * (r.uniform() - 0.5);
        for (auto& p : start_v) p = r.chance(30) ? std::nan("") : scale * (r.uniform() - 0.5);
        if (!r.chance(3)) options.start_col4row = start.data();
        if (!r.chance(3)) options.start_u = start_u.data();
        if (!r.chance(3)) options.start_v = start_v.data();
    }
    lap::solve_sparse(t.cost, options, out);
    if (out.fault[0]) return "indices were refused";
    if (s.invalid != (out.status == lap::Status::invalid_entry)) return "validity";
    if (s.invalid) return nullptr;
    if (r.chance(10)) return run_damaged(r, t);
    std::vector<double> dense(n * m, s.maximize ? -kInf : kInf);
    for (const auto& [pair, c] : s.of) dense[std::size_t(pair.first * s.m + pair.second)] = c;
    lap::Cost cost;
    cost.data = dense.data();
    cost.rows = s.n;
    cost.cols = s.m;
    cost.row_stride = 8 * s.m;
    cost.col_stride = 8;
    cost.maximize = s.maximize;
    const lap::Solution known = lap::solve(cost);
    if ((known.status == lap::Status::infeasible) != (out.status == lap::Status::infeasible)) return "feasibility";
    if (out.status == lap::Status::infeasible) return check_blocked(s, out);
    if (out.status != lap::Status::optimal) return "status";
    return check_sparse(s, out, x, y, u, v);
}

struct Small {
    lap::Cost cost;
    std::vector<double> entries;
    std::vector<std::vector<std::int64_t>> matchings;  // all of them, as columns of rows
};

void enumerate(Small& s, std::vector<std::int64_t>& x, std::vector<char>& used, std::int64_t i, std::int64_t skipped) {
    if (i == s.cost.rows) return s.matchings.push_back(x);
    if (skipped < s.cost.rows - s.cost.cols) {
        x[std::size_t(i)] = -1;
        enumerate(s, x, used, i + 1, skipped + 1);
    }
    for (std::int64_t j = 0; j < s.cost.cols; j++) {
        if (used[std::size_t(j)] || std::isinf(s.entries[std::size_t(i * s.cost.cols + j)])) continue;
        used[std::size_t(j)] = 1;
        x[std::size_t(i)] = j;
        enumerate(s, x, used, i + 1, skipped);
        used[std::size_t(j)] = 0;
    }
}

Small make_small(Random& r) {
    Small s;
    s.cost.rows = r.below(6);
    s.cost.cols = r.below(6);
    s.cost.maximize = r.chance(4);
    const std::int64_t family = r.below(9) % 6;
    const double forbidden = r.chance(2) ? 0.6 * r.uniform() : 0;
    for (std::int64_t k = 0; k < s.cost.rows * s.cost.cols; k++)
        s.entries.push_back(r.uniform() < forbidden ? (s.cost.maximize ? -kInf : kInf) : draw(r, family));
    s.cost.data = s.entries.data();
    s.cost.row_stride = 8 * s.cost.cols;
    s.cost.col_stride = 8;
    std::vector<std::int64_t> x(std::size_t(s.cost.rows), -1);
    std::vector<char> used(std::size_t(s.cost.cols), 0);
    enumerate(s, x, used, 0, 0);
    return s;
}

const char* run_k_best(Random& r) {
    const Small s = make_small(r);
    const double sign = s.cost.maximize ? -1 : 1;
    const auto total = [&](const std::vector<std::int64_t>& x) {
        long double sum = 0;
        for (std::int64_t i = 0; i < s.cost.rows; i++)
            if (x[std::size_t(i)] >= 0) sum += s.entries[std::size_t(i * s.cost.cols + x[std::size_t(i)])];
        return double(sum);
    };
    std::vector<double> totals;
    double size = 0;
    for (const double c : s.entries)
        if (std::isfinite(c)) size = std::max(size, std::fabs(c));
    for (const auto& x : s.matchings) totals.push_back(sign * total(x));
    std::sort(totals.begin(), totals.end());
    const std::int64_t k = 1 + r.below(r.chance(2) ? 10 : 150);
    lap::RankedOutput out;
    lap::solve_k_best(s.cost, k, {}, out);
    if (s.matchings.empty() != (out.status == lap::Status::infeasible)) return "feasibility of k best";
    if (s.matchings.empty()) return nullptr;
    if (out.status != lap::Status::optimal) return "status of k best";
    if (out.totals.size() != std::min(std::size_t(k), totals.size())) return "number of matchings";
    const std::set<std::vector<std::int64_t>> all(s.matchings.begin(), s.matchings.end());
    const std::set<std::vector<std::int64_t>> found(out.matchings.begin(), out.matchings.end());
    if (found.size() != out.matchings.size()) return "a matching twice";
    for (std::size_t i = 0; i < out.totals.size(); i++) {
        if (!all.count(out.matchings[i])) return "no matching";
        if (!(std::fabs(total(out.matchings[i]) - out.totals[i]) <= 1e-14 * size)) return "total of k best";
        if (!(std::fabs(sign * out.totals[i] - totals[i]) <= 1e-14 * size)) return "order of k best";
    }
    return nullptr;
}

const char* run_bottleneck(Random& r) {
    const Small s = make_small(r);
    const double sign = s.cost.maximize ? -1 : 1;
    std::pair<double, double> best(kInf, kInf);
    double size = 0;
    for (const auto& x : s.matchings) {
        double worst = -kInf, total = 0;
        for (std::int64_t i = 0; i < s.cost.rows; i++) {
            if (x[std::size_t(i)] < 0) continue;
            const double c = sign * s.entries[std::size_t(i * s.cost.cols + x[std::size_t(i)])];
            worst = std::max(worst, c);
            total += c;
            size = std::max(size, std::fabs(c));
        }
        best = std::min(best, {worst, total});
    }
    const auto n = std::size_t(s.cost.rows), m = std::size_t(s.cost.cols);
    std::vector<std::int64_t> x(n, 1 << 30), y(m, 1 << 30);
    std::vector<double> u(n, std::nan("")), v(m, std::nan(""));
    lap::BottleneckOutput out;
    out.col4row = x.data();
    out.row4col = y.data();
    out.u = u.data();
    out.v = v.data();
    const bool then_sum = r.chance(2);
    lap::solve_bottleneck(s.cost, then_sum, {}, out);
    if (s.matchings.empty() != (out.status == lap::Status::infeasible)) return "feasibility of bottleneck";
    if (n > 0 && m > 0 && out.crowded.size() <= out.neighbours.size()) return "blocking set";
    const std::set<std::int64_t> lines(out.crowded.begin(), out.crowded.end());
    const std::set<std::int64_t> others(out.neighbours.begin(), out.neighbours.end());
    const double least = s.matchings.empty() ? kInf : sign * out.bottleneck;
    for (std::int64_t i = 0; i < s.cost.rows; i++)
        for (std::int64_t j = 0; j < s.cost.cols; j++)
            if (sign * s.entries[std::size_t(i * s.cost.cols + j)] < least && lines.count(n <= m ? i : j) &&
                !others.count(n <= m ? j : i))
                return "blocking set: a neighbour is missing";
    if (s.matchings.empty() || std::min(n, m) == 0) return nullptr;
    if (out.status != lap::Status::optimal) return "status of bottleneck";
    if (least != best.first) return "bottleneck";
    if (std::find(s.matchings.begin(), s.matchings.end(), x) == s.matchings.end()) return "no matching of bottleneck";
    if (then_sum && !(std::fabs(sign * out.total - best.second) <= 1e-13 * size)) return "sum of bottleneck";
    return nullptr;
}

// A gated problem in any layout: what its entries stand for, what the unmatched pay, and where the answer goes.
struct Gated {
    lap::Cost cost;
    lap::Options options;
    lap::Unmatched unmatched;
    lap::Output out;
    std::int64_t n = 0, m = 0;  // of the problem
    double scale = 0.0;         // the largest magnitude of an entry that is not cut off, and of what is paid
    std::vector<double> wide, entries, r, k, u, v, paid, start_v;
    std::vector<float> narrow;
    std::vector<std::int32_t> integers;
    std::vector<std::int64_t> x, y, start;
    double at(std::int64_t i, std::int64_t j) const { return entries[std::size_t(i * m + j)]; }
};

// What the unmatched pay, by each row and column of the problem.
void draw_unmatched(Random& r, Gated& g, std::int64_t family, double sign) {
    const bool integers = r.chance(3);
    const auto number = [&] {
        double x = r.chance(8) ? 0.0 : draw(r, family == 6 ? 2 : family) * (r.chance(4) ? 0.5 : 1.0);
        if (r.chance(6)) x = -0.3 * x;
        return integers ? std::floor(std::clamp(x, -1e9, 1e9)) : x;
    };
    const std::int64_t repeats = g.cost.row_repeats;
    if (!r.chance(3)) {
        g.unmatched.limit = number();
        if (!g.entries.empty() && r.chance(3)) g.unmatched.limit = g.entries[std::size_t(r.below(g.n * g.m))];
        if (!std::isfinite(g.unmatched.limit)) g.unmatched.limit = sign;
        g.r.assign(std::size_t(g.n), g.unmatched.limit / 2);
        g.k.assign(std::size_t(g.m), g.unmatched.limit / 2);
        return;
    }
    const double row = number(), column = number();
    const bool rows_alike = r.chance(3), columns_alike = r.chance(3);
    g.paid.reserve(std::size_t(g.cost.rows));
    for (std::int64_t i = 0; i < g.cost.rows; i++) g.paid.push_back(rows_alike ? row : number());
    for (std::int64_t j = 0; j < g.m; j++) g.k.push_back(columns_alike ? column : number());
    for (std::int64_t i = 0; i < g.n; i++) g.r.push_back(g.paid[std::size_t(i / repeats)]);
    static const double none = 0.0;  // of a problem without rows or columns
    g.unmatched.rows = g.paid.empty() ? &none : g.paid.data();
    g.unmatched.cols = g.k.empty() ? &none : g.k.data();
}

void make_gated(Random& r, Gated& g) {
    const std::int64_t most = r.chance(30) ? 90 : r.chance(3) ? 20 : 6, family = r.below(9);
    const double sign = r.chance(4) ? -1 : 1;
    g.cost.rows = r.below(most + 1);
    g.cost.cols = g.m = r.chance(3) ? g.cost.rows : r.chance(30) ? 100 * most : r.below(most + 1);
    g.cost.row_repeats = r.chance(5) ? 1 + r.below(3) : 1;
    g.cost.maximize = sign < 0;
    g.n = g.cost.problem_rows();
    const std::int64_t stored = g.cost.rows * g.m, kind = r.below(3);
    const double forbidden = r.chance(3) ? r.uniform() : 0;
    for (std::int64_t e = 0; e < stored; e++) {
        const double x = r.uniform() < forbidden ? sign * kInf : draw(r, family);
        if (kind == 0) g.wide.push_back(x);
        if (kind == 1) g.narrow.push_back(float(std::isinf(x) ? x : std::clamp(x, -1e38, 1e38)));
        if (kind == 2) g.integers.push_back(std::int32_t(std::clamp(x, -2e9, 2e9)));
    }
    const auto value = [&](std::int64_t e) {
        const auto s = std::size_t(e);
        return kind == 0 ? g.wide[s] : kind == 1 ? double(g.narrow[s]) : double(g.integers[s]);
    };
    const std::int64_t size = kind == 0 ? 8 : 4;
    const bool by_column = r.chance(3);
    g.cost.data = kind == 0 ? static_cast<void*>(g.wide.data()) : kind == 1 ? static_cast<void*>(g.narrow.data()) : g.integers.data();
    g.cost.dtype = kind == 0 ? lap::DType::float64 : kind == 1 ? lap::DType::float32 : lap::DType::int32;
    g.cost.row_stride = size * (by_column ? 1 : g.m);
    g.cost.col_stride = size * (by_column ? g.cost.rows : 1);
    for (std::int64_t i = 0; i < g.n; i++)
        for (std::int64_t j = 0; j < g.m; j++) {
            const std::int64_t row = i / g.cost.row_repeats;
            g.entries.push_back(value(by_column ? row + j * g.cost.rows : row * g.m + j));
        }
    draw_unmatched(r, g, family, sign);
    for (std::int64_t i = 0; i < g.n; i++)
        for (std::int64_t j = 0; j < g.m; j++) {
            const double cut = g.r[std::size_t(i)] + g.k[std::size_t(j)];
            if (sign * g.at(i, j) <= sign * cut) g.scale = std::max(g.scale, std::fabs(g.at(i, j)));
        }
    for (const double x : g.r) g.scale = std::max(g.scale, std::fabs(x));
    for (const double x : g.k) g.scale = std::max(g.scale, std::fabs(x));
}

// The optimum by the complete problem of (n + m) rows and columns [[c, r], [k, 0]].
double padded_total(const Gated& g) {
    const std::int64_t size = g.n + g.m;
    std::vector<double> square(std::size_t(size * size), 0.0);
    for (std::int64_t i = 0; i < g.n; i++)
        for (std::int64_t j = 0; j < size; j++) square[std::size_t(i * size + j)] = j < g.m ? g.at(i, j) : g.r[std::size_t(i)];
    for (std::int64_t i = g.n; i < size; i++)
        for (std::int64_t j = 0; j < g.m; j++) square[std::size_t(i * size + j)] = g.k[std::size_t(j)];
    lap::Cost cost;
    cost.data = square.data();
    cost.rows = cost.cols = size;
    cost.row_stride = 8 * size;
    cost.col_stride = 8;
    cost.maximize = g.cost.maximize;
    return lap::solve(cost).total;
}

const char* check_gated(const Gated& g) {
    const double sign = g.cost.maximize ? -1 : 1;
    if (g.out.status != lap::Status::optimal) return "status of a gated problem";
    long double total = 0, duals = 0;
    double used = 0;
    std::int64_t rows = 0, columns = 0;
    const auto pay = [&](double x) {
        total += x;
        used = std::max(used, std::fabs(x));
    };
    for (std::int64_t i = 0; i < g.n; i++) {
        const std::int64_t j = g.x[std::size_t(i)];
        if (j < -1 || j >= g.m || (j >= 0 && g.y[std::size_t(j)] != i)) return "no matching of a gated problem";
        rows += j >= 0;
        pay(j >= 0 ? g.at(i, j) : g.r[std::size_t(i)]);
        duals += g.u[std::size_t(i)];
        used = std::max(used, std::fabs(g.u[std::size_t(i)]));
        if (sign * g.u[std::size_t(i)] > sign * g.r[std::size_t(i)]) return "a price above what a row pays";
        long double cut = g.unmatched.limit;
        if (j >= 0 && g.unmatched.rows) cut = (long double)g.r[std::size_t(i)] + g.k[std::size_t(j)];
        if (j >= 0 && sign * g.at(i, j) > sign * cut) return "a pair beyond the limit";
    }
    for (std::int64_t j = 0; j < g.m; j++) {
        const std::int64_t i = g.y[std::size_t(j)];
        if (i < -1 || i >= g.n || (i >= 0 && g.x[std::size_t(i)] != j)) return "no matching of a gated problem";
        columns += i >= 0;
        if (i < 0) pay(g.k[std::size_t(j)]);
        duals += g.v[std::size_t(j)];
        used = std::max(used, std::fabs(g.v[std::size_t(j)]));
        if (sign * g.v[std::size_t(j)] > sign * g.k[std::size_t(j)]) return "a price above what a column pays";
    }
    if (rows != columns) return "rows and columns of a gated problem";
    const long double rounding = 0x1p-60L * used;
    for (std::int64_t i = 0; i < g.n; i++)
        for (std::int64_t j = 0; j < g.m; j++)
            if (sign * ((long double)g.u[std::size_t(i)] + g.v[std::size_t(j)] - g.at(i, j)) > rounding)
                return "prices of a gated problem";
    const double size = double(g.n + g.m);
    const double denormal = 0x1p-1073 * size;  // where half of a limit is no float64
    const bool beyond = std::isinf(double(total));
    if (beyond && g.out.total != double(total)) return "a total beyond float64";
    if (!beyond && !(std::fabs(double(total - g.out.total)) <= 0x1p-50 * size * used + denormal)) return "total of a gated problem";
    const bool whole = g.cost.dtype == lap::DType::int32 && g.out.gap == 0.0;
    if (!whole && sign * double(total - duals) > g.out.gap + 0x1p-58 * size * used + denormal) return "gap of a gated problem";
    const double least = double(std::max<std::int64_t>(1, std::min(g.n, g.m)));
    const double bound = g.unmatched.rows ? 8 * size * 0x1p-53 * std::max(g.scale, used) : 12 * least * 0x1p-53 * used;
    if (!(g.out.gap <= bound + denormal)) return "size of the gap of a gated problem";
    if (g.n + g.m > 60 || beyond) return nullptr;
    const double known = padded_total(g);
    if (!(std::fabs(known - g.out.total) <= 40 * size * 0x1p-53 * std::max(used, g.unmatched.rows ? g.scale : 0.0) + denormal))
        return "optimum of a gated problem";
    return nullptr;
}

const char* run_gated(Random& r) {
    std::vector<Gated> problems(std::size_t(1 + (r.chance(3) ? r.below(4) : 0)));
    std::vector<lap::Cost> costs;
    std::vector<lap::Options> options;
    std::vector<lap::Output> outputs;
    for (Gated& g : problems) {
        make_gated(r, g);
        g.x.assign(std::size_t(g.n), 1 << 30);
        g.y.assign(std::size_t(g.m), 1 << 30);
        g.u.assign(std::size_t(g.n), std::nan(""));
        g.v.assign(std::size_t(g.m), std::nan(""));
        g.options.unmatched = &g.unmatched;
        g.out.col4row = g.x.data();
        g.out.row4col = g.y.data();
        g.out.u = g.u.data();
        g.out.v = g.v.data();
        if (r.chance(4)) {
            for (std::int64_t i = 0; i < g.n; i++) g.start.push_back(r.below(g.m + 2) - 1);
            for (std::int64_t j = 0; j < g.m; j++) g.start_v.push_back(r.chance(9) ? std::nan("") : r.uniform());
            g.options.start_col4row = g.start.data();
            g.options.start_v = g.start_v.data();
        }
        costs.push_back(g.cost);
        options.push_back(g.options);
        outputs.push_back(g.out);
    }
    lap::solve_batch(costs, options, outputs, int(1 + r.below(3)));
    for (std::size_t k = 0; k < problems.size(); k++) {
        problems[k].out = outputs[k];
        if (const char* wrong = check_gated(problems[k])) return wrong;
    }
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    const long cases = argc > 1 ? std::atol(argv[1]) : 2000, seed = argc > 2 ? std::atol(argv[2]) : 0;
    const long first = argc > 3 ? std::atol(argv[3]) : 0;
    for (long k = first; k < cases; k++) {
        Random r;
        r.engine.seed(static_cast<std::uint64_t>(seed * 1000003 + k));
        const char* wrong = k % 5 == 4 ? run_gated(r) : k % 2 == 0 ? run_sparse(r) : k % 4 == 1 ? run_k_best(r) : run_bottleneck(r);
        if (wrong) {
            std::printf("case %ld of seed %ld: %s\n", k, seed, wrong);
            return 1;
        }
    }
    std::printf("%ld cases passed\n", cases - first);
    return 0;
}
