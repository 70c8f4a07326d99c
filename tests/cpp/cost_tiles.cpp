// Runs the tiles of pairwise cost on buffers of exactly the right size: every instruction set, every form, sizes at
// both sides of every edge, one thread and three. Built with ASan and UBSan by the tests; prints the instruction
// sets, exits 1 at the first wrong entry.
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>

#include "cost/tiles.hpp"

namespace cost = loomfast::cost;
namespace simd = loomfast::simd;

namespace {

std::mt19937 generator(1);

std::unique_ptr<float[]> draw(std::int64_t count) {
    std::normal_distribution<float> normal;
    auto values = std::make_unique<float[]>(static_cast<std::size_t>(count));
    for (std::int64_t k = 0; k < count; ++k) values[k] = normal(generator);
    return values;
}

double expected(const cost::Problem& p, std::int64_t i, std::int64_t j) {
    double product = 0, distance = 0;
    for (std::int64_t k = 0; k < p.d; ++k) {
        const double x = p.x[i * p.d + k], z = p.z[j * p.d + k];
        product += x * z;
        distance += (x - z) * (x - z);
    }
    return p.form == cost::Form::products ? -2 * product : distance;
}

// The last row ends with its last entry, not with the stride. Roots are compared by their squares.
bool right(std::int64_t n, std::int64_t m, std::int64_t d, cost::Form form, int threads) {
    const std::int64_t stride = m + 3;
    const auto x = draw(n * d), z = draw(m * d), out = draw((n - 1) * stride + m);
    const cost::Problem p{x.get(), z.get(), out.get(), n, m, d, stride, form, form != cost::Form::products && n % 2};
    cost::tiled(p, threads);
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < m; ++j) {
            const double want = expected(p, i, j), entry = out[i * stride + j];
            const double got = p.euclidean ? entry * entry : entry;
            if (std::abs(got - want) <= 1e-5 * (static_cast<double>(d) + 1)) continue;
            std::printf("%s, n %lld, m %lld, d %lld, form %d: entry %lld, %lld is %g, not %g\n", simd::name_of(simd::current()),
                        static_cast<long long>(n), static_cast<long long>(m), static_cast<long long>(d),
                        static_cast<int>(form), static_cast<long long>(i), static_cast<long long>(j), got, want);
            return false;
        }
    }
    return true;
}

}  // namespace

int main() {
    for (const simd::Target target : simd::targets()) {
        simd::use(target);
        for (const cost::Form form : {cost::Form::products, cost::Form::full, cost::Form::differences})
            for (const std::int64_t d : {0, 1, 3, 5, 16, 17, 33, 130, 193, 257, 600})
                for (const std::int64_t n : {1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 257})
                    for (const std::int64_t m : {1, 4, 7, 8, 9, 17, 31, 33, 65})
                        if (n * m * d < 100000 && !right(n, m, d, form, n % 3 ? 1 : 3)) return 1;
        std::printf("%s ", simd::name_of(target));
    }
}
