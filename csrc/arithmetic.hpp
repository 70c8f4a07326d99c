// The arithmetic that the engine's results are promised in: rounded to nearest, subnormal numbers kept.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace loomfast {

// Puts the thread in it, whatever its caller works in (torch.set_flush_denormal, -ffast-math), and puts back what
// was there. Every call from Python has one, and every thread of the engine: a new thread inherits its maker's.
class DefaultArithmetic {
  public:
    DefaultArithmetic() : before_(control()) {
        if ((before_ & ~kFlags) != kDefault) set_control(kDefault);
    }
    ~DefaultArithmetic() {
        if ((before_ & ~kFlags) != kDefault) set_control(before_);
    }
    DefaultArithmetic(const DefaultArithmetic&) = delete;
    DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

  private:
#if defined(__SSE2__)
    using Control = std::uint32_t;
    static constexpr Control kDefault = 0x1f80, kFlags = 0x3f;  // exceptions masked; those that have occurred
    static Control control() { return _mm_getcsr(); }
    static void set_control(Control value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
    using Control = std::uint64_t;
    static constexpr Control kDefault = 0, kFlags = 0;
    static Control control() {
        Control value;
        __asm__ __volatile__("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void set_control(Control value) { __asm__ __volatile__("msr fpcr, %0" : : "r"(value)); }
#else
    using Control = int;
    static constexpr Control kDefault = 0, kFlags = 0;
    static Control control() { return kDefault; }
    static void set_control(Control) {}
#endif

    const Control before_;
};

}  // namespace loomfast
