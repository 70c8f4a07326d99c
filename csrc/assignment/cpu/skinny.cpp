// Of the n rows' columns only each one's n + 1 nearest matter: the other rows can take n - 1 of them, so that an optimal
// matching need not look further, and one of them stays free of charge, which bounds the row's dual price. One pass finds
// them, in blocks that fit a core's cache; what is left is a small problem in which a row's other columns are forbidden. Its
// prices with zeros elsewhere prove the whole: no other column is below a row's (n + 1)-th least cost, and no u_i is above it.
#include "assignment/cpu/skinny.hpp"

#include <cmath>
#include <limits>
#include <tuple>

#include "assignment/cpu/sentinels.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int64_t kMostRows = 128, kColumnsPerRow = 100;
constexpr std::int64_t kBlockEntries = 1 << 14;

// False at an invalid entry.
bool read_block(const Source& source, const Kernels& kernels, std::int64_t first, std::int64_t width,
                Array<double>& buffer, Array<Nearest>& nearest, Filter& filter) {
    const std::int64_t rows = source.storage_rows();
    if (source.column_major()) read_tile(source, kernels, 0, rows, first, width, buffer.data());
    for (std::int64_t r = 0; r < rows; r++) {
        const double* row = buffer.data() + r * width;
        if (!source.column_major()) row = source.part(r * source.row_repeats(), first, width, buffer.data());
        RowFacts facts;
        if (!kernels.survey_d(row, static_cast<std::int32_t>(width), &facts)) {
            std::int64_t j = 0;
            while (j + 1 < width && row[j] > -kInf) j++;
            filter.valid = false;
            std::tie(filter.bad_row, filter.bad_col) = source.origin(r * source.row_repeats(), first + j);
            return false;
        }
        filter.largest = std::max(filter.largest, facts.largest);
        Nearest& near = nearest[r];
        if (!(facts.least < near.limit)) continue;
        constexpr std::int64_t side = 16;  // entries that are looked at together
        for (std::int64_t j = 0; j < width; j += side) {
            const std::int64_t end = std::min(j + side, width);
            int below = 0;
            for (std::int64_t k = j; k < end; k++) below += row[k] < near.limit;
            for (std::int64_t k = j; below && k < end; k++)
                if (row[k] < near.limit) near.offer(row[k], first + k);
        }
    }
    return true;
}

Array<std::int64_t> columns_of(const Array<Nearest>& nearest) {
    Array<std::int64_t> columns;
    for (const Nearest& near : nearest)
        for (const auto& [cost, column] : near.found) columns.push_back(column);
    std::sort(columns.begin(), columns.end());
    columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
    return columns;
}

}  // namespace

void Nearest::offer(double cost, std::int64_t column) {
    found.push_back({cost, column});
    if (found.count() == 2 * keep) trim();
}

void Nearest::trim() {
    if (found.count() <= keep) return;
    std::nth_element(found.begin(), found.begin() + keep - 1, found.end());
    found.resize(static_cast<std::size_t>(keep));
    limit = found.back().first;
}

bool is_skinny(const Source& source) {
    return source.rows() > 0 && source.rows() <= kMostRows && source.cols() >= kColumnsPerRow * source.rows();
}

Array<Nearest> nearest_columns(const Source& source, Filter& filter, const Kernels& kernels, Cancel* cancel) {
    const std::int64_t rows = source.storage_rows(), m = source.cols();
    Array<Nearest> nearest = filled(rows, Nearest{source.rows() + 1, {}});
    const std::int64_t width = std::min(m, std::max(kBlockEntries / rows, std::int64_t{64}));
    Array<double> buffer = filled(rows * width, 0.0);
    for (std::int64_t first = 0; first < m; first += width) {
        if (cancel && cancel->look()) break;
        if (!read_block(source, kernels, first, std::min(width, m - first), buffer, nearest, filter)) break;
    }
    for (Nearest& near : nearest) near.trim();
    return nearest;
}

Answer solve_skinny(Source& source, const Array<Nearest>& nearest, const Kernels& kernels,
                    const Options& options, bool integers) {
    Answer answer;
    if (options.cancel && options.cancel->look()) return answer;
    answer.status = Status::infeasible;
    const Array<std::int64_t> columns = columns_of(nearest);
    const std::int64_t rows = nearest.count(), count = columns.count();
    if (count < source.rows()) return answer;
    Array<double> costs = filled(rows * count, kInf);
    for (std::int64_t r = 0; r < rows; r++)
        for (const auto& [cost, column] : nearest[r].found) {
            auto k = std::lower_bound(columns.begin(), columns.end(), column) - columns.begin();
            costs[r * count + k] = cost;
        }
    Cost cost;
    cost.data = costs.data();
    cost.rows = rows;
    cost.cols = count;
    cost.row_stride = 8 * cost.cols;
    cost.col_stride = 8;
    cost.row_repeats = source.row_repeats();
    Source near(cost);
    Filter filter = make_filter(near, kernels);
    Options cold;
    cold.cancel = options.cancel;
    answer = solve_by_magnitude(near, filter, kernels, cold, integers);
    if (!answer.solved()) return answer;
    source.set_factor(near.factor());
    answer.stats.path = "nearest columns";
    const Array<std::int32_t> y = std::move(answer.y);
    const Array<double> p = std::move(answer.p);
    answer.y = filled(source.cols(), -1);
    answer.p = filled(source.cols(), 0.0);
    for (std::int64_t k = 0; k < count; k++) {
        answer.y[columns[k]] = y[k];
        answer.p[columns[k]] = p[k];
    }
    for (std::int32_t& j : answer.x) j = static_cast<std::int32_t>(columns[j]);
    return answer;
}

}  // namespace loomfast::assignment
