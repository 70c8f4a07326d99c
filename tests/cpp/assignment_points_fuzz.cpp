// Fuzzes the assignment of points: assignment_points_fuzz [cases] [seed] [first case]. Points of every kind, from ties and
// lattices to clusters of all magnitudes, in 1 to 16 dimensions, against their own certificate over every pair and
// against the dense solver on the matrix of the same costs. Outputs are poisoned first. Built with ASan and UBSan by the
// tests; exits 1 at the first wrong answer.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "assignment/points.hpp"

namespace lap = loomfast::assignment;

namespace {

struct Random {
    std::mt19937_64 engine;
    std::int64_t below(std::int64_t bound) { return std::int64_t(engine() % std::uint64_t(bound)); }
    bool chance(std::int64_t one_in) { return below(one_in) == 0; }
    double uniform() { return double(engine() >> 11) * 0x1p-53; }
};

struct Problem {
    std::int64_t n = 0, m = 0;
    int d = 1;
    lap::Metric metric = lap::Metric::sqeuclidean;
    std::vector<double> x, z, costs;
    double at(std::int64_t i, std::int64_t j) const { return costs[std::size_t(i * m + j)]; }
};

std::vector<double> draw(Random& r, std::int64_t count, int d, std::int64_t family) {
    std::vector<double> points;
    for (std::int64_t i = 0; i < count; i++) {
        const double scale = family == 4 ? std::pow(10.0, double(r.below(12)) - 6) : 1.0, place = double(r.below(2));
        for (int k = 0; k < d; k++) {
            double a = r.uniform() - 0.5;
            if (family == 1) a = double(r.below(4)) - 1;
            if (family == 2) a = 0.1;
            if (family == 3) a = place * (k + 1);
            if (family == 4) a *= scale;
            if (family == 5) a += 1e8;
            if (family == 6) a *= 1e140;
            if (family == 7) a *= 1e-140;
            if (family == 8) a = place * a;  // half of them in one place
            points.push_back(a);
        }
    }
    return points;
}

// As documented: coordinate by coordinate.
double cost_of(const Problem& p, std::int64_t i, std::int64_t j) {
    double sum = 0.0;
    for (int k = 0; k < p.d; k++) {
        const double a = p.x[std::size_t(i * p.d + k)], b = p.z[std::size_t(j * p.d + k)];
        sum += p.metric == lap::Metric::dot ? a * b : (a - b) * (a - b);
    }
    return p.metric == lap::Metric::euclidean ? std::sqrt(sum) : p.metric == lap::Metric::dot ? -sum : sum;
}

Problem make(Random& r) {
    Problem p;
    const std::int64_t most = r.chance(50) ? 400 : r.chance(4) ? 60 : 9;
    p.n = r.below(most + 1);
    p.m = r.chance(2) ? p.n : r.below(most + 1);
    p.d = int(1 + r.below(r.chance(4) ? 16 : 3));
    p.metric = static_cast<lap::Metric>(r.below(3));
    const std::int64_t family = r.below(9);
    p.x = draw(r, p.n, p.d, family);
    p.z = draw(r, p.m, p.d, r.chance(4) && family < 5 ? r.below(5) : family);
    if (r.chance(5) && p.n == p.m) p.z = p.x;
    for (std::int64_t i = 0; i < p.n; i++)
        for (std::int64_t j = 0; j < p.m; j++) p.costs.push_back(cost_of(p, i, j));
    return p;
}

const char* check(const Problem& p, const lap::Output& out, const std::vector<std::int64_t>& x,
                  const std::vector<std::int64_t>& y, const std::vector<double>& u, const std::vector<double>& v) {
    long double total = 0, dual = 0;
    double largest = 0;
    std::int64_t matched = 0;
    for (std::int64_t i = 0; i < p.n; i++) {
        const std::int64_t j = x[std::size_t(i)];
        if (j == -1) continue;
        if (j < 0 || j >= p.m || y[std::size_t(j)] != i) return "col4row and row4col disagree";
        total += p.at(i, j);
        largest = std::max(largest, std::fabs(p.at(i, j)));
        matched++;
    }
    if (matched != std::min(p.n, p.m)) return "matching is not complete";
    if (std::count(y.begin(), y.end(), -1) != p.m - matched) return "row4col";
    for (const auto* side : {&u, &v})
        for (const double a : *side) {
            if (!std::isfinite(a)) return "a dual price is not finite";
            dual += a;
            largest = std::max(largest, std::fabs(a));
        }
    for (std::int64_t i = 0; i < p.n; i++)
        for (std::int64_t j = 0; j < p.m; j++) {
            const double a = u[std::size_t(i)], b = v[std::size_t(j)];
            if (!((long double)p.at(i, j) - a - b >= -0x1p-60L * (std::fabs(a) + std::fabs(b)))) return "prices";
        }
    const auto& longer = p.n <= p.m ? v : u;
    const auto& partner = p.n <= p.m ? y : x;
    for (std::size_t k = 0; k < longer.size(); k++)
        if (longer[k] > 0 || (partner[k] < 0 && longer[k] != 0)) return "price sign";
    const long double rounding = 0x1p-58L * double(p.n + p.m) * largest;
    if (!(out.gap >= total - dual - rounding)) return "gap is not a bound";
    if (!(out.gap <= 8.0L * double(matched) * 0x1p-53 * largest)) return "gap exceeds the exactness bound";
    if (!(std::fabs(double(out.total - total)) <= 0x1p-50L * double(p.n + p.m) * largest)) return "total";
    return nullptr;
}

const char* run(Random& r) {
    const Problem p = make(r);
    std::vector<std::int64_t> x(std::size_t(p.n), 1 << 30), y(std::size_t(p.m), 1 << 30);
    std::vector<double> u(std::size_t(p.n), std::nan("")), v(std::size_t(p.m), std::nan(""));
    lap::PointsCost cost;
    cost.x = p.x.data();
    cost.z = p.z.data();
    cost.rows = p.n;
    cost.cols = p.m;
    cost.d = p.d;
    cost.metric = p.metric;
    lap::Output out;
    out.col4row = x.data();
    out.row4col = y.data();
    out.u = u.data();
    out.v = v.data();
    lap::solve_points(cost, {}, out);
    if (out.status != lap::Status::optimal) return "status";
    if (const char* wrong = check(p, out, x, y, u, v)) return wrong;
    if (p.costs.empty()) return nullptr;
    lap::Cost dense;
    dense.data = p.costs.data();
    dense.rows = p.n;
    dense.cols = p.m;
    dense.row_stride = 8 * p.m;
    dense.col_stride = 8;
    const lap::Solution known = lap::solve(dense);
    double size = 0;
    for (std::int64_t i = 0; i < p.n; i++)
        if (x[std::size_t(i)] >= 0) size += std::fabs(p.at(i, x[std::size_t(i)]));
    return std::fabs(known.total - out.total) <= known.gap + out.gap + 1e-13 * size ? nullptr : "optimum";
}

}  // namespace

int main(int argc, char** argv) {
    const long cases = argc > 1 ? std::atol(argv[1]) : 2000, seed = argc > 2 ? std::atol(argv[2]) : 0;
    const long first = argc > 3 ? std::atol(argv[3]) : 0;
    for (long k = first; k < cases; k++) {
        Random r;
        r.engine.seed(static_cast<std::uint64_t>(seed * 1000003 + k));
        if (const char* wrong = run(r)) {
            std::printf("case %ld of seed %ld: %s\n", k, seed, wrong);
            return 1;
        }
    }
    std::printf("%ld cases passed\n", cases - first);
    return 0;
}
