// The arithmetic that the engine's results are promised in: rounded to nearest, subnormal numbers kept.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace loomfast {

namespace arithmetic {

// A thread's control register, without the flags of what has happened, and what it is by default.
#if defined(__SSE2__)
using Control = std::uint32_t;
constexpr Control kDefault = 0x1f80;
inline Control control() { return _mm_getcsr() & ~0x3fu; }
inline void set_control(Control value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
using Control = std::uint64_t;
constexpr Control kDefault = 0;
inline Control control() {
    Control value;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(value));
    return value;
}
inline void set_control(Control value) { __asm__ __volatile__("msr fpcr, %0" : : "r"(value)); }
#else
using Control = int;
constexpr Control kDefault = 0;
inline Control control() { return kDefault; }
inline void set_control(Control) {}
#endif

// Both leave the register alone where it is what it should be: to write it takes long.
inline Control enter() {
    const Control before = control();
    if (before != kDefault) set_control(kDefault);
    return before;
}
inline void leave(Control before) {
    if (before != kDefault) set_control(before);
}

}  // namespace arithmetic

// Puts the thread in it, whatever its caller works in (torch.set_flush_denormal, -ffast-math), and puts back what
// was there. Every call from Python has one, and every thread of the engine: a new thread inherits its maker's.
class DefaultArithmetic {
  public:
    DefaultArithmetic() : before_(arithmetic::enter()) {}
    ~DefaultArithmetic() { arithmetic::leave(before_); }
    DefaultArithmetic(const DefaultArithmetic&) = delete;
    DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

  private:
    const arithmetic::Control before_;
};

}  // namespace loomfast
