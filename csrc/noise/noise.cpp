#include "noise/noise.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "noise/kernels.hpp"
#include "noise/philox.hpp"
#include "threads/pool.hpp"

namespace loomfast::noise {
namespace {

constexpr int64_t kTile = 2048;  // numbers whose words and normals stay in the first-level cache
constexpr int64_t kNearestNumbers = 4096;  // of noise made before their items are looked at
constexpr int64_t kLeastBlocks = 1024;  // a thread takes at a time

Key split(uint64_t seed) { return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}; }

// What is to be made: normals of blocks that are counted through all items.
struct Request {
    const Kernels& kernels;
    Stream stream;
    const uint64_t* items;
    int64_t num_items, item_size;

    int64_t item_blocks() const { return (item_size + 3) / 4; }
    int64_t blocks() const { return num_items * item_blocks(); }
};

// The words of `groups` groups from block `begin` on. Lanes beyond the last item get blocks that nobody has.
void fill_words(const Request& request, const Schedule& schedule, int64_t begin, int64_t groups, uint32_t* words) {
    const int64_t blocks = request.item_blocks(), lanes = request.kernels.lanes;
    const uint32_t word3 = request.stream.word3;
    int64_t item = begin / blocks, block = begin % blocks;
    while (groups > 0) {
        const int64_t whole = std::min(groups, (blocks - block) / lanes);  // groups within the item
        if (whole > 0) {
            const auto first = static_cast<uint32_t>(block);
            request.kernels.words(first, request.items[item], word3, schedule, whole, words);
            block += whole * lanes;
            if (block == blocks) block = 0, ++item;
        } else {
            alignas(64) uint64_t block_of[kMaxLanes], id_of[kMaxLanes];
            for (int64_t lane = 0; lane < lanes; ++lane) {
                block_of[lane] = static_cast<uint64_t>(block);
                id_of[lane] = request.items[item];
                if (++block == blocks && item + 1 < request.num_items) block = 0, ++item;
            }
            request.kernels.mixed_words(block_of, id_of, word3, schedule, words);
        }
        const int64_t made = std::max<int64_t>(whole, 1);
        groups -= made;
        words += made * 4 * lanes;
    }
}

// put(values, item, offset, count) for the normals of blocks begin, begin + 1, ...: a piece of one item each time.
template <class Put>
void put_pieces(const Request& request, const float* values, int64_t begin, int64_t count, const Put& put) {
    const int64_t blocks = request.item_blocks(), size = request.item_size;
    int64_t item = begin / blocks, block = begin % blocks;
    while (count > 0) {
        const int64_t taken = std::min(count, blocks - block);
        put(values, item, item * size + 4 * block, std::min(4 * taken, size - 4 * block));
        values += 4 * taken;
        count -= taken;
        block = 0, ++item;
    }
}

// Blocks begin ... end. `whole`: where float32 normals of all blocks follow each other without a gap, or null.
template <class Put>
void make(const Request& request, const Schedule& schedule, int64_t begin, int64_t end, float* whole,
          const Put& put) {
    alignas(64) uint32_t words[kTile];
    alignas(64) float normals[kTile];
    const int64_t lanes = request.kernels.lanes;
    while (begin < end) {
        const int64_t groups = std::min(kTile / (4 * lanes), (end - begin + lanes - 1) / lanes);
        const int64_t blocks = std::min(groups * lanes, end - begin);
        fill_words(request, schedule, begin, groups, words);
        if (whole && blocks == groups * lanes) {
            request.kernels.normals(words, groups, whole + 4 * begin);
        } else {
            request.kernels.normals(words, groups, normals);
            put_pieces(request, normals, begin, blocks, put);
        }
        begin += blocks;
    }
}

template <class Put>
void make_all(const Request& request, float* whole, int threads, const Put& put) {
    const Schedule schedule(split(request.stream.seed));
    const int64_t blocks = request.blocks();
    const int64_t grain = threads > 1 ? std::max(kLeastBlocks, blocks / (16 * threads)) : std::max<int64_t>(blocks, 1);
    run_chunks(blocks, (grain + kMaxLanes - 1) / kMaxLanes * kMaxLanes, threads,
               [&](int64_t begin, int64_t end) { make(request, schedule, begin, end, whole, put); });
}

}  // namespace

LOOMFAST_DEFINE_CHOICE(Kernels, kernels)

void fill_normals(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, Element element,
                  void* out, int threads) {
    const Request request{kernels(), stream, items, num_items, item_size};
    if (element == Element::float32) {
        auto* const to = static_cast<float*>(out);
        make_all(request, item_size % 4 == 0 ? to : nullptr, threads,
                 [=](const float* values, int64_t, int64_t offset, int64_t count) {
                     std::copy_n(values, count, to + offset);
                 });
    } else if (element == Element::float64) {
        make_all(request, nullptr, threads, [&, out](const float* values, int64_t, int64_t offset, int64_t count) {
            request.kernels.to_doubles(values, static_cast<double*>(out) + offset, count);
        });
    } else {
        make_all(request, nullptr, threads, [&, out](const float* values, int64_t, int64_t offset, int64_t count) {
            request.kernels.to_bfloat16s(values, static_cast<uint16_t*>(out) + offset, count);
        });
    }
}

void fill_interpolated(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, const float* x,
                       const float* t, float* point, float* velocity, int threads) {
    const Request request{kernels(), stream, items, num_items, item_size};
    const auto put = [&](const float* z, int64_t item, int64_t offset, int64_t count) {
        request.kernels.interpolate(z, x + offset, t[item], point + offset, velocity + offset, count);
    };
    make_all(request, nullptr, threads, put);
}

namespace {

// The factors (a, b) of z and x that make z the nearest candidate; `sums` are x.x, x.z and z.z.
void nearest_factors(const double* sums, const double* g, const double* q, int64_t others, float& a, float& b) {
    a = 1, b = 0;
    if (!std::isfinite(sums[0])) a = b = std::numeric_limits<float>::quiet_NaN();
    const double length = std::sqrt(sums[0]);
    int64_t best = -1;
    double least = sums[2] - 2 * sums[1];
    for (int64_t k = 0; k < others; ++k) {
        const double distance = g[k] * g[k] + q[k] - 2 * length * g[k];
        if (distance < least) least = distance, best = k;
    }
    if (best < 0 || !std::isfinite(sums[0])) return;
    constexpr double tiny = std::numeric_limits<double>::min();
    if (length == 0) {  // no direction is special: only the length of the noise is chosen
        a = static_cast<float>(std::sqrt((g[best] * g[best] + q[best]) / std::max(sums[2], tiny)));
        return;
    }
    const double own = sums[1] / length, rest = std::max(sums[2] - own * own, tiny);
    const double scale = std::sqrt(q[best] / rest);
    a = static_cast<float>(scale);
    b = static_cast<float>((g[best] - scale * own) / length);
}

}  // namespace

void fill_nearest(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, const float* x,
                  const double* g, const double* q, int64_t others, float* out, float* a, float* b, int threads) {
    const Request request{kernels(), stream, items, num_items, item_size};
    const Schedule schedule(split(stream.seed));
    const int64_t blocks = request.item_blocks();
    const auto put = [=](const float* values, int64_t, int64_t offset, int64_t count) {
        std::copy_n(values, count, out + offset);
    };
    // So few items at a time that they are still in a cache near by when they are looked at.
    const int64_t grain = std::max<int64_t>(1, kNearestNumbers / std::max<int64_t>(item_size, 1));
    run_chunks(num_items, grain, threads, [&](int64_t begin, int64_t end) {
        make(request, schedule, begin * blocks, end * blocks, item_size % 4 == 0 ? out : nullptr, put);
        for (int64_t i = begin; i < end; ++i) {
            double sums[3];
            request.kernels.dots(x + i * item_size, out + i * item_size, item_size, sums);
            nearest_factors(sums, g + i * others, q + i * others, others, a[i], b[i]);
            if (a[i] != 1 || b[i] != 0)
                request.kernels.blend(a[i], b[i], x + i * item_size, out + i * item_size, item_size);
        }
    });
}

void fill_bits(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, uint32_t* out) {
    for (int64_t i = 0; i < num_items; ++i) {
        for (int64_t e = 0; e < item_size; e += 4) {
            const Words words =
                philox4x32(static_cast<uint32_t>(e / 4), static_cast<uint32_t>(items[i]),
                           static_cast<uint32_t>(items[i] >> 32), stream.word3, split(stream.seed));
            std::copy_n(words.x, std::min<int64_t>(4, item_size - e), out + i * item_size + e);
        }
    }
}

}  // namespace loomfast::noise
