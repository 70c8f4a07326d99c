// Every instruction set's normals against philox.hpp, one block at a time, into buffers of just the right size. With
// arguments SEED WORD3 SIZE ID..., it writes every instruction set's float32 normals of these items instead.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "noise/noise.hpp"
#include "noise/philox.hpp"
#include "simd/target.hpp"

using namespace loomfast;
using namespace loomfast::noise;

namespace {

constexpr uint64_t kSeed = 0x123456789ABCDEF0;
constexpr uint32_t kWord3 = 3;

template <class T>
std::unique_ptr<T[]> made(Element element, const uint64_t* ids, int64_t n, int64_t d, int threads) {
    std::unique_ptr<T[]> out(new T[static_cast<std::size_t>(n * d)]);
    fill_normals({kSeed, kWord3}, ids, n, d, element, out.get(), threads);
    return out;
}

long wrong(int64_t n, int64_t d, int threads) {
    std::unique_ptr<uint64_t[]> ids(new uint64_t[static_cast<std::size_t>(n)]);
    for (int64_t i = 0; i < n; ++i) ids[i] = 0x9E3779B97F4A7C15 * static_cast<uint64_t>(i + 1);
    const auto floats = made<float>(Element::float32, ids.get(), n, d, threads);
    const auto doubles = made<double>(Element::float64, ids.get(), n, d, threads);
    const auto halves = made<uint16_t>(Element::bfloat16, ids.get(), n, d, threads);
    const Key key{static_cast<uint32_t>(kSeed), static_cast<uint32_t>(kSeed >> 32)};
    long count = 0;
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t e = 0; e < d; ++e) {
            const auto low = static_cast<uint32_t>(ids[i]), high = static_cast<uint32_t>(ids[i] >> 32);
            const float z = normals(philox4x32(static_cast<uint32_t>(e / 4), low, high, kWord3, key)).x[e % 4];
            const int64_t at = i * d + e;
            count += std::memcmp(&z, &floats[at], sizeof z) != 0 || doubles[at] != z || halves[at] != to_bfloat16(z);
        }
    }
    return count;
}

int write(int count, char** arguments) {
    const Stream stream{std::strtoull(arguments[0], nullptr, 10),
                        static_cast<uint32_t>(std::strtoul(arguments[1], nullptr, 10))};
    const int64_t size = std::atol(arguments[2]);
    std::vector<uint64_t> ids;
    for (int i = 3; i < count; ++i) ids.push_back(std::strtoull(arguments[i], nullptr, 10));
    std::vector<float> out(ids.size() * static_cast<std::size_t>(size));
    for (const simd::Target target : simd::targets()) {
        simd::use(target);
        fill_normals(stream, ids.data(), static_cast<int64_t>(ids.size()), size, Element::float32, out.data(), 1);
        std::fwrite(out.data(), sizeof(float), out.size(), stdout);
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count > 1) return write(count - 1, arguments + 1);
    long errors = 0;
    for (const simd::Target target : simd::targets()) {
        simd::use(target);
        std::printf("%s ", simd::name_of(target));
        for (int64_t n : {0, 1, 2, 17, 33})
            for (int64_t d : {0, 1, 3, 4, 5, 8, 31, 32, 60, 64, 127, 128, 129, 516, 2049, 2052})
                for (int threads : {1, 3}) errors += wrong(n, d, threads);
        errors += wrong(9, 3072, 3);
    }
    std::printf("%ld wrong\n", errors);
    return errors != 0;
}
