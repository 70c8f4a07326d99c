// What a solve of points needs to go on where it was: written to bytes, and read into arrays of the same sizes.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace loomfast::assignment {

class StateWriter {
  public:
    static constexpr bool kReads = false;

    template <class T>
    void operator()(T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    }
    template <class T>
    void operator()(std::vector<T>& values) {
        static_assert(std::is_trivially_copyable_v<T>);
        std::uint64_t count = values.size();
        (*this)(count);
        bytes_.append(reinterpret_cast<const char*>(values.data()), count * sizeof(T));
    }
    const std::string& bytes() const { return bytes_; }

  private:
    std::string bytes_;
};

// Throws where there is less than is asked for, or another number of elements than there has to be.
class StateReader {
  public:
    static constexpr bool kReads = true;

    explicit StateReader(std::string_view bytes) : left_(bytes) {}

    template <class T>
    void operator()(T& value) {
        take(&value, sizeof(T));
    }
    template <class T>
    void operator()(std::vector<T>& values) {
        std::uint64_t count = 0;
        (*this)(count);
        if (count != values.size()) fail();
        take(values.data(), count * sizeof(T));
    }
    // A list of rows, of any length.
    void list(std::vector<std::int32_t>& rows, std::int64_t below) {
        std::uint64_t count = 0;
        (*this)(count);
        if (count > left_.size() / sizeof(std::int32_t)) fail();
        rows.resize(count);
        take(rows.data(), count * sizeof(std::int32_t));
        for (const std::int32_t row : rows)
            if (row < 0 || row >= below) fail();
    }
    void end() const {
        if (!left_.empty()) fail();
    }

  private:
    [[noreturn]] static void fail() { throw std::invalid_argument("the state is none of this problem"); }

    void take(void* to, std::size_t size) {
        if (size > left_.size()) fail();
        if (size > 0) std::memcpy(to, left_.data(), size);
        left_.remove_prefix(size);
    }

    std::string_view left_;
};

}  // namespace loomfast::assignment
