// What the bindings of all forms of the assignment share.
#pragma once

#include <pybind11/numpy.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "assignment/assignment.hpp"
#include "bindings/bindings.hpp"

namespace lap = loomfast::assignment;

// Looks for Ctrl-C at most every 50 ms, with the GIL. Python runs signal handlers in its main thread only.
struct SignalWatch : lap::Cancel {
    std::atomic<std::int64_t> next_look{0};
    std::atomic<bool> interrupted{false};

    SignalWatch() {
        poll = [](lap::Cancel& cancel) { static_cast<SignalWatch&>(cancel).watch(); };
        next_look = milliseconds() + 50;
    }

    static std::int64_t milliseconds() {
        auto now = std::chrono::steady_clock::now().time_since_epoch();
        return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
    }

    void watch() {
        std::int64_t now = milliseconds(), due = next_look.load(std::memory_order_relaxed);
        if (now < due || std::this_thread::get_id() != owner) return;
        next_look.store(now + 50, std::memory_order_relaxed);
        py::gil_scoped_acquire acquired;
        if (!interrupted && PyErr_CheckSignals() != 0) requested = interrupted = true;
    }

private:
    const std::thread::id owner = std::this_thread::get_id();
};

// Runs `task(cancel)` without the GIL; Ctrl-C stops it and becomes KeyboardInterrupt.
template <class Task>
void run_interruptible(Task&& task) {
    SignalWatch watch;
    {
        const Entered entered;
        task(&watch);
    }
    if (watch.interrupted) throw py::error_already_set();
}

inline std::optional<lap::DType> dtype_of(int type_num) {
    using api = py::detail::npy_api;
    switch (type_num) {
        case api::NPY_BOOL_: return lap::DType::boolean;
        case api::NPY_BYTE_: return lap::DType::int8;
        case api::NPY_UBYTE_: return lap::DType::uint8;
        case api::NPY_SHORT_: return lap::DType::int16;
        case api::NPY_USHORT_: return lap::DType::uint16;
        case api::NPY_INT_: return lap::DType::int32;
        case api::NPY_UINT_: return lap::DType::uint32;
        case api::NPY_LONG_: return sizeof(long) == 8 ? lap::DType::int64 : lap::DType::int32;
        case api::NPY_ULONG_: return sizeof(long) == 8 ? lap::DType::uint64 : lap::DType::uint32;
        case api::NPY_LONGLONG_: return lap::DType::int64;
        case api::NPY_ULONGLONG_: return lap::DType::uint64;
        case 23: return lap::DType::float16;
        case api::NPY_FLOAT_: return lap::DType::float32;
        case api::NPY_DOUBLE_: return lap::DType::float64;
        default: return std::nullopt;
    }
}

// An (n, m) array with any strides; bfloat16 comes as its bits.
inline lap::Cost matrix_of(const py::array& costs, const std::string& dtype, bool maximize) {
    const auto plain = dtype_of(costs.dtype().num());
    if (!plain) throw py::type_error("costs must be of a dtype that the engine reads, got " + dtype);
    return {costs.data(),     dtype == "bfloat16" ? lap::DType::bfloat16 : *plain, costs.shape(0), costs.shape(1),
            costs.strides(0), costs.strides(1), 1, maximize};
}

inline py::array_t<std::int64_t> as_array(const std::vector<std::int64_t>& values) {
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

inline const char* status_name(lap::Status status) {
    switch (status) {
        case lap::Status::optimal: return "optimal";
        case lap::Status::within_tolerance: return "within_tolerance";
        case lap::Status::infeasible: return "infeasible";
        case lap::Status::invalid_entry: return "invalid_entry";
        case lap::Status::inexact_integers: return "inexact_integers";
        case lap::Status::uncertified: return "uncertified";
        default: return "cancelled";
    }
}
