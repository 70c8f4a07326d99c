#include "assignment/cpu/solver.hpp"

#include "assignment/cpu/cold.hpp"
#include "assignment/cpu/warm.hpp"

namespace loomfast::assignment {

Status solve(Work& w, const Options& options) {
    if (w.n <= kTinyRows) return solve_plainly(w);
    const double* v = w.rows.source.transposed() ? options.start_u : options.start_v;
    return v || options.start_col4row ? solve_warm(w, v, options.start_col4row) : solve_cold(w);
}

}  // namespace loomfast::assignment
