// Solve, prove, and improve until the proof holds.
#pragma once

#include "assignment/cpu/certificate.hpp"

namespace loomfast::assignment {

struct Answer {
    Status status = Status::cancelled;
    Array<std::int32_t> x, y;  // row -> column, column -> row
    Array<double> p, u;        // p_j = -v_j >= 0
    Certificate certificate;
    Stats stats;

    bool solved() const { return status == Status::optimal || status == Status::within_tolerance; }
};

// The optimum of the source as it stands: its total is within 8 n 2^-53 s of the best, s the largest magnitude of a
// matched cost, or of a dual price where these have to be larger. Integers (below 2^53 / n) are solved exactly.
Answer solve_exactly(const Source& source, const Filter& filter, const Kernels& kernels, const Options& options,
                     bool integers);

// The same for a few rows and columns of ordinary numbers, without a filter, in about a microsecond. False if they
// are not, or if that proves nothing: nothing has been done then.
bool solve_tiny(const Source& source, const Kernels& kernels, Cancel* cancel, Answer& answer);

}  // namespace loomfast::assignment
