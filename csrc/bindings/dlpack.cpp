// Arrays of other libraries through DLPack, of the dtypes that NumPy has and of bfloat16, which it refuses.
// The structures are those of the DLPack standard, versions 0 and 1 (dmlc.github.io/dlpack).
#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "bindings/bindings.hpp"

namespace {

struct Device {
    int32_t type, id;
};

struct ElementType {
    uint8_t code, bits;
    uint16_t lanes;
};

struct Tensor {
    void* data;
    Device device;
    int32_t ndim;
    ElementType dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};

struct Versioned {
    uint32_t major, minor;
    void* context;
    void (*deleter)(Versioned*);
    uint64_t flags;
    Tensor tensor;
};

const Tensor& tensor_of(const py::capsule& capsule) {
    const std::string name = capsule.name() ? capsule.name() : "";
    if (name == "dltensor") return *capsule.get_pointer<Tensor>();  // the first member of its structure
    if (name != "dltensor_versioned") throw py::value_error("this DLPack capsule was used before, or is none");
    const Versioned& managed = *capsule.get_pointer<Versioned>();
    if (managed.major != 1) throw py::value_error("DLPack version " + std::to_string(managed.major) + " is unknown");
    return managed.tensor;
}

std::string name_of(ElementType type) {
    static const std::vector<std::string> names{
        "int",           "uint",            "float",       "handle",          "bfloat",         "complex",
        "bool",          "float8_e3m4",     "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz",
        "float8_e5m2",   "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn",  "float4_e2m1fn"};
    std::string name = type.code < names.size() ? names[type.code] : "DLPack code " + std::to_string(type.code);
    const bool plain_byte = type.code >= 6 && type.bits <= 8;
    if (!plain_byte) name += std::to_string(type.bits);
    if (type.lanes != 1) name += "x" + std::to_string(type.lanes);
    return name;
}

py::str dlpack_dtype(const py::capsule& capsule) { return name_of(tensor_of(capsule).dtype); }

// The capsule stays what it is, unused, and lives as long as the array: its own destructor frees the tensor.
py::array dlpack_array(const py::capsule& capsule, const py::dtype& dtype) {
    const Tensor& tensor = tensor_of(capsule);
    const std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.ndim);
    std::vector<py::ssize_t> strides(shape.size());
    py::ssize_t step = dtype.itemsize();
    for (std::size_t k = shape.size(); k-- > 0;) {
        strides[k] = tensor.strides ? tensor.strides[k] * dtype.itemsize() : step;
        step *= shape[k];
    }
    return {dtype, shape, strides, static_cast<const char*>(tensor.data) + tensor.byte_offset, capsule};
}

}  // namespace

void bind_dlpack(py::module_& m) {
    m.def("dlpack_dtype", &dlpack_dtype, "The name of the dtype in a DLPack capsule.");
    m.def("dlpack_array", &dlpack_array, "The array in a DLPack capsule on the CPU, read as a NumPy dtype of its size.");
}
