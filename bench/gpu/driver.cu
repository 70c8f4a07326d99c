// The kernels through their public C++ interface, without Python or torch: what compute-sanitizer watches.
//
//   nvcc -std=c++17 -O3 -lineinfo -arch=sm_90 -I csrc -o driver bench/gpu/driver.cu csrc/assignment/cuda/assignment.cu
//        csrc/noise/noise.cu -DLOOMFAST_CUDA_ARCHITECTURES='"90"'
//
// Every allocation is exactly as large as what is asked for, so that a read or write beyond it is seen. Answers are
// checked on the host: a permutation, feasible prices, a gap within rounding. Exits 1 at the first wrong one.
#include "assignment/cuda/assignment_cuda.hpp"
#include "noise/noise_cuda.hpp"

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

namespace lf = loomfast::cuda;

void check(cudaError_t code, const char* what) {
    if (code != cudaSuccess) {
        std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
        std::exit(3);
    }
}

// Device memory of exactly `count` values.
template <class T>
struct Device {
    explicit Device(size_t count) : size(count) { check(cudaMalloc(&data, count * sizeof(T)), "memory"); }
    explicit Device(const std::vector<T>& values) : Device(values.size()) {
        check(cudaMemcpy(data, values.data(), size * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
    }
    Device(const Device&) = delete;
    ~Device() { cudaFree(data); }

    std::vector<T> host() const {
        std::vector<T> values(size);
        check(cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost), "copy from the device");
        return values;
    }

    T* data = nullptr;
    size_t size;
};

struct Shape {
    int64_t batch, rows, columns;
    bool maximize;
};

double uniform(uint64_t& state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) * 0x1p-53;
}

// Whether one instance is matched row by row and its prices prove it.
bool right(const float* cost, const int64_t* column, const double* u, const double* v, int64_t n, int64_t m,
           double sign) {
    std::vector<char> taken(static_cast<size_t>(m), 0);
    double gap = 0;
    int64_t matched = 0;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t j = column[i];
        if (j < -1 || j >= m || (j >= 0 && taken[static_cast<size_t>(j)]++)) {
            return false;
        }
        matched += j >= 0;
        gap += sign * ((j >= 0 ? cost[i * m + j] : 0.0) - u[i]);
        for (int64_t k = 0; k < m; ++k) {
            if (sign * (cost[i * m + k] - u[i] - v[k]) < -1e-9) {
                return false;
            }
        }
    }
    for (int64_t j = 0; j < m; ++j) {
        gap -= sign * v[j];
    }
    return matched == (n < m ? n : m) && std::fabs(gap) < 1e-6;
}

bool solve(const Shape& shape, const lf::DeviceLimits& limits, cudaStream_t stream) {
    const size_t b = static_cast<size_t>(shape.batch), n = static_cast<size_t>(shape.rows);
    const size_t m = static_cast<size_t>(shape.columns);
    uint64_t state = b * n + m;
    std::vector<float> values(b * n * m);
    for (float& value : values) {
        value = static_cast<float>(uniform(state));
    }
    Device<float> cost(values);
    Device<int64_t> col4row(b * n), row4col(b * m), counters(b * lf::kCounters);
    Device<double> u(b * n), v(b * m), total(b), gap(b);
    Device<int32_t> status(b);
    const lf::Problem problem = {cost.data, lf::CostType::float32, false, shape.batch, shape.rows, shape.columns,
                                 shape.rows * shape.columns, shape.columns, 1, 1, shape.maximize, 0.0,
                                 nullptr, nullptr, nullptr, col4row.data, row4col.data, u.data, v.data,
                                 total.data, gap.data, status.data, counters.data, nullptr, nullptr};
    Device<unsigned char> workspace(lf::workspace_bytes(problem, limits) + 1);
    const lf::Error error = lf::solve(problem, limits, workspace.data, stream);
    if (error.code != 0) {
        std::fprintf(stderr, "solve: %s\n", error.message);
        std::exit(3);
    }
    check(cudaStreamSynchronize(stream), "solve");
    const auto columns = col4row.host();
    const auto row_prices = u.host(), column_prices = v.host();
    for (size_t k = 0; k < b; ++k) {
        if (status.host()[k] != lf::kOptimal || !right(&values[k * n * m], &columns[k * n], &row_prices[k * n],
                                                       &column_prices[k * m], shape.rows, shape.columns,
                                                       shape.maximize ? -1.0 : 1.0)) {
            std::printf("wrong: instance %zu of %zu x %zu x %zu\n", k, b, n, m);
            return false;
        }
    }
    return true;
}

// Limits that leave the launcher one way: by blocks, by teams of blocks, by clusters of each size that there is.
std::vector<lf::DeviceLimits> every_way(const lf::DeviceLimits& limits) {
    std::vector<lf::DeviceLimits> found(2, limits);
    found[0].only = lf::kByBlocks;
    found[1].only = lf::kByTeams;
    for (int k = 0; k < lf::kClusterSizes; ++k) {
        if (limits.clusters[k] > 0) {
            lf::DeviceLimits clusters = limits;
            clusters.only = lf::kByClusters;
            for (int other = 0; other < lf::kClusterSizes; ++other) {
                clusters.clusters[other] = other == k ? limits.clusters[k] : 0;
            }
            found.push_back(clusters);
        }
    }
    return found;
}

// Noise of a few items, two strides: finite, and not twice the same.
bool fill(int64_t items, int64_t size, int64_t stride, cudaStream_t stream) {
    std::vector<int64_t> numbers(static_cast<size_t>(items));
    for (size_t k = 0; k < numbers.size(); ++k) {
        numbers[k] = static_cast<int64_t>(k) - 2;
    }
    Device<int64_t> ids(numbers);
    Device<float> out(static_cast<size_t>((items - 1) * stride + size));
    check(cudaMemset(out.data, 0, out.size * sizeof(float)), "memory");
    const char* error = loomfast::noise::fill_normals_cuda({7, 1}, ids.data, items, size, stride,
                                                           loomfast::noise::Element::float32, out.data, stream);
    if (error) {
        std::fprintf(stderr, "noise: %s\n", error);
        std::exit(3);
    }
    check(cudaStreamSynchronize(stream), "noise");
    const auto values = out.host();
    bool good = true;
    for (int64_t k = 0; k < size; ++k) {
        good &= std::isfinite(values[static_cast<size_t>(k)]);
        good &= items < 2 || values[static_cast<size_t>(k)] != values[static_cast<size_t>(k + stride)];
    }
    return good;
}

}  // namespace

int main() {
    lf::DeviceLimits limits{};
    if (lf::device_limits(&limits).code != 0) {
        std::fprintf(stderr, "no CUDA device: %s\n", lf::device_limits(&limits).message);
        return 3;
    }
    cudaStream_t stream;
    check(cudaStreamCreate(&stream), "stream");
    bool good = true;
    for (const lf::DeviceLimits& way : every_way(limits)) {
        good &= solve({5, 70, 70, false}, way, stream) && solve({1, 150, 131, true}, way, stream);
    }
    for (const Shape& shape : {Shape{40, 8, 8, false}, {3, 33, 33, true}, {2, 20, 45, false}, {2, 45, 20, false},
                               {1, 130, 130, false}, {1, 62, 60, false}, {1, 270, 270, false}, {1, 3, 2100, false},
                               {5, 100, 100, false}, {3, 40, 110, true}}) {
        good &= solve(shape, limits, stream);
    }
    good &= fill(5, 33, 33, stream) && fill(3, 64, 70, stream) && fill(1, 1, 1, stream);
    check(cudaStreamDestroy(stream), "stream");
    std::puts(good ? "all right" : "wrong");
    return good ? 0 : 1;
}
