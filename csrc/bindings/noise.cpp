#include "noise/noise.hpp"

#include <pybind11/numpy.h>

#include <stdexcept>
#include <string>

#include "bindings/bindings.hpp"
#include "noise/noise_cuda.hpp"
#include "noise/philox.hpp"

namespace {

namespace noise = loomfast::noise;
using Items = py::array_t<uint64_t, py::array::c_style>;

noise::Element element_of(const py::array& out) {
    if (out.dtype().is(py::dtype::of<float>())) return noise::Element::float32;
    if (out.dtype().is(py::dtype::of<double>())) return noise::Element::float64;
    if (out.dtype().is(py::dtype::of<uint16_t>())) return noise::Element::bfloat16;
    throw py::type_error("out must be float32, float64 or uint16 (the bits of bfloat16)");
}

void check_out(const Items& items, const py::array& out) {
    if (items.ndim() != 1 || out.ndim() != 2 || out.shape(0) != items.shape(0))
        throw py::value_error("items must be (n,) and out (n, item_size)");
    if (!(out.flags() & py::array::c_style) || !out.writeable())
        throw py::value_error("out must be contiguous and writeable");
}

void noise_fill(const Items& items, uint64_t seed, uint32_t word3, py::array out, int threads) {
    check_out(items, out);
    const noise::Element element = element_of(out);
    void* const data = out.mutable_data();
    const int64_t size = out.shape(1), count = items.shape(0);
    const uint64_t* const ids = items.data();
    const Entered entered;
    noise::fill_normals({seed, word3}, ids, count, size, element, data, threads);
}

// Addresses instead of arrays: an array takes longer to make of a tensor than a small request takes.
void noise_fill_at(std::uintptr_t items, int64_t num_items, int64_t item_size, uint64_t seed, uint32_t word3,
                   std::uintptr_t out, int threads) {
    const Entered entered;
    noise::fill_normals({seed, word3}, reinterpret_cast<const uint64_t*>(items), num_items, item_size,
                        noise::Element::float32, reinterpret_cast<void*>(out), threads);
}

using Floats = py::array_t<float, py::array::c_style>;

void noise_interpolate(const Items& items, uint64_t seed, uint32_t word3, const Floats& x, const Floats& t,
                       Floats point, Floats velocity, int threads) {
    check_out(items, point);
    check_out(items, velocity);
    if (x.ndim() != 2 || x.shape(0) != items.shape(0) || t.ndim() != 1 || t.shape(0) != items.shape(0) ||
        point.shape(1) != x.shape(1) || velocity.shape(1) != x.shape(1))
        throw py::value_error("x, point and velocity must be (n, item_size) and t (n,)");
    float *const to_point = point.mutable_data(), *const to_velocity = velocity.mutable_data();
    const Entered entered;
    noise::fill_interpolated({seed, word3}, items.data(), items.shape(0), x.shape(1), x.data(), t.data(), to_point,
                             to_velocity, threads);
}

using Doubles = py::array_t<double, py::array::c_style>;

void noise_fill_nearest(const Items& items, uint64_t seed, uint32_t word3, const Floats& x, const Doubles& g,
                        const Doubles& q, Floats out, Floats a, Floats b, int threads) {
    check_out(items, out);
    const int64_t count = items.shape(0);
    const auto pairs = [&](const Doubles& part) {
        return part.ndim() == 2 && part.shape(0) == count && part.shape(1) == g.shape(1);
    };
    if (x.ndim() != 2 || x.shape(0) != count || x.shape(1) != out.shape(1) || !pairs(g) || !pairs(q) ||
        a.ndim() != 1 || a.shape(0) != count || b.ndim() != 1 || b.shape(0) != count)
        throw py::value_error("x must be like out, g and q (n, k), a and b (n,)");
    float *const to = out.mutable_data(), *const to_a = a.mutable_data(), *const to_b = b.mutable_data();
    const Entered entered;
    noise::fill_nearest({seed, word3}, items.data(), count, x.shape(1), x.data(), g.data(), q.data(), g.shape(1), to,
                        to_a, to_b, threads);
}

#ifdef LOOMFAST_CUDA_BUILT
// Device pointers and the stream as integers; the caller has checked shapes and types and set the device.
void noise_fill_cuda(std::uintptr_t ids, int64_t num_items, int64_t item_size, int64_t stride, uint64_t seed,
                     uint32_t word3, int itemsize, std::uintptr_t out, std::uintptr_t cuda_stream) {
    const noise::Element element = itemsize == 4   ? noise::Element::float32
                                   : itemsize == 8 ? noise::Element::float64
                                                   : noise::Element::bfloat16;
    const char* const error = noise::fill_normals_cuda(
        {seed, word3}, reinterpret_cast<const int64_t*>(ids), num_items, item_size, stride, element,
        reinterpret_cast<void*>(out), reinterpret_cast<void*>(cuda_stream));
    if (error) throw std::runtime_error(std::string("CUDA: ") + error);
}
#endif

void noise_bits(const Items& items, uint64_t seed, uint32_t word3, py::array_t<uint32_t> out) {
    check_out(items, out);
    noise::fill_bits({seed, word3}, items.data(), items.shape(0), out.shape(1), out.mutable_data());
}

py::tuple noise_philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed) {
    const noise::Key key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    const noise::Words words = noise::philox4x32(c0, c1, c2, c3, key);
    return py::make_tuple(words.x[0], words.x[1], words.x[2], words.x[3]);
}

}  // namespace

void bind_noise(py::module_& m) {
    m.def("philox4x32", &noise_philox, "Four words of the counter (c0, c1, c2, c3) under a 64-bit seed.");
    m.def("noise_fill", &noise_fill, py::arg("items").noconvert(), py::arg("seed"), py::arg("word3"),
          py::arg("out").noconvert(), py::arg("threads"),
          "Normals of noise format 1 into out (n, item_size): float32, float64, or bfloat16 as uint16.");
    m.def("noise_fill_at", &noise_fill_at, py::arg("items"), py::arg("num_items"), py::arg("item_size"),
          py::arg("seed"), py::arg("word3"), py::arg("out"), py::arg("threads"),
          "The same in float32, at the addresses of contiguous 64-bit items and normals.");
    m.def("noise_interpolate", &noise_interpolate, py::arg("items").noconvert(), py::arg("seed"),
          py::arg("word3"), py::arg("x").noconvert(), py::arg("t").noconvert(), py::arg("point").noconvert(),
          py::arg("velocity").noconvert(), py::arg("threads"),
          "t x + (1 - t) z and x - z into point and velocity, z being the normals of noise_fill.");
    m.def("noise_fill_nearest", &noise_fill_nearest, py::arg("items").noconvert(), py::arg("seed"),
          py::arg("word3"), py::arg("x").noconvert(), py::arg("g").noconvert(), py::arg("q").noconvert(),
          py::arg("out").noconvert(), py::arg("a").noconvert(), py::arg("b").noconvert(), py::arg("threads"),
          "The nearest to x of the normals of noise_fill and of candidates (g, q), as a z + b x into out.");
#ifdef LOOMFAST_CUDA_BUILT
    m.def("noise_fill_cuda", &noise_fill_cuda, "noise_fill in device memory, by pointers, on a stream.");
#endif
    m.def("noise_bits", &noise_bits, py::arg("items").noconvert(), py::arg("seed"), py::arg("word3"),
          py::arg("out").noconvert(), "The uint32 words that noise_fill makes its normals of, into out (n, item_size).");
}
