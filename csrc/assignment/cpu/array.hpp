// Arrays with an index of any integer type: rows and columns are counted in int32, entries in int64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace loomfast::assignment {

template <class T>
struct Array : std::vector<T> {
    using std::vector<T>::vector;

    template <class Integer>
    T& operator[](Integer k) { return this->data()[k]; }
    template <class Integer>
    const T& operator[](Integer k) const { return this->data()[k]; }
    std::int64_t count() const { return static_cast<std::int64_t>(this->size()); }
};

// An array of `count` elements `value`.
template <class T>
Array<T> filled(std::int64_t count, T value) {
    return Array<T>(static_cast<std::size_t>(count), value);
}

}  // namespace loomfast::assignment
