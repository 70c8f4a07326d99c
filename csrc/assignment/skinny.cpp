// Of the n rows' columns only each one's n + 1 nearest matter: the other rows can take n - 1 of them, so that an optimal
// matching need not look further, and one of them stays free of charge, which bounds the row's dual price. One pass finds
// them, in blocks that fit a core's cache; what is left is a small problem. Its prices with zeros elsewhere prove the
// whole: no column outside is below a row's (n + 1)-th least cost, and no u_i is above it.
#include "assignment/skinny.hpp"

#include <cmath>
#include <limits>
#include <tuple>

#include "assignment/sentinels.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int64_t kMostRows = 16, kColumnsPerRow = 100;
constexpr std::int64_t kBlockEntries = 1 << 14;

// The least `keep` costs of a row so far, the first of equal ones, and at most as many others.
struct Nearest {
    std::size_t keep;
    std::vector<std::pair<double, std::int64_t>> found;
    double limit = kInf;  // costs from here on are not among them

    void offer(double cost, std::int64_t column) {
        found.push_back({cost, column});
        if (found.size() == 2 * keep) trim();
    }

    void trim() {
        if (found.size() <= keep) return;
        std::nth_element(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(keep) - 1, found.end());
        found.resize(keep);
        limit = found.back().first;
    }
};

// False at an invalid entry.
bool read_block(const Source& source, const Kernels& kernels, std::int64_t first, std::int64_t width,
                std::vector<double>& buffer, std::vector<Nearest>& nearest, Filter& filter) {
    const std::int64_t rows = source.storage_rows();
    source.tile(0, rows, first, width, buffer.data());
    for (std::int64_t r = 0; r < rows; r++) {
        const double* row = buffer.data() + r * width;
        RowFacts facts;
        if (!kernels.survey_d(row, static_cast<std::int32_t>(width), &facts)) {
            std::int64_t j = 0;
            while (j + 1 < width && row[j] > -kInf) j++;
            filter.valid = false;
            std::tie(filter.bad_row, filter.bad_col) = source.origin(r * source.row_repeats(), first + j);
            return false;
        }
        filter.largest = std::max(filter.largest, facts.largest);
        Nearest& near = nearest[static_cast<std::size_t>(r)];
        if (!(facts.least < near.limit)) continue;
        for (std::int64_t j = 0; j < width; j++)
            if (row[j] < near.limit) near.offer(row[j], first + j);
    }
    return true;
}

std::vector<std::int64_t> columns_of(std::vector<Nearest>& nearest) {
    std::vector<std::int64_t> columns;
    for (Nearest& near : nearest) {
        near.trim();
        for (const auto& [cost, column] : near.found) columns.push_back(column);
    }
    std::sort(columns.begin(), columns.end());
    columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
    return columns;
}

}  // namespace

bool is_skinny(const Source& source) {
    return source.rows() > 0 && source.rows() <= kMostRows && source.cols() >= kColumnsPerRow * source.rows();
}

std::vector<std::int64_t> nearest_columns(const Source& source, Filter& filter, const Kernels& kernels, Cancel* cancel) {
    const std::int64_t rows = source.storage_rows(), m = source.cols();
    const auto keep = static_cast<std::size_t>(source.rows()) + 1;
    std::vector<Nearest> nearest(static_cast<std::size_t>(rows), Nearest{keep, {}});
    const std::int64_t width = std::min(m, std::max(kBlockEntries / rows, std::int64_t{64}));
    std::vector<double> buffer(static_cast<std::size_t>(rows * width));
    for (std::int64_t first = 0; first < m; first += width) {
        if (cancel && cancel->look()) return {};
        if (!read_block(source, kernels, first, std::min(width, m - first), buffer, nearest, filter)) return {};
    }
    return columns_of(nearest);
}

Answer solve_skinny(Source& source, const std::vector<std::int64_t>& columns, const Kernels& kernels,
                    const Options& options, bool integers) {
    Answer answer;
    if (options.cancel && options.cancel->look()) return answer;
    answer.status = Status::infeasible;
    const std::size_t rows = static_cast<std::size_t>(source.storage_rows()), count = columns.size();
    if (count < static_cast<std::size_t>(source.rows())) return answer;
    std::vector<double> costs(rows * count);
    for (std::size_t k = 0; k < costs.size(); k++)
        costs[k] = source.at(static_cast<std::int64_t>(k / count) * source.row_repeats(), columns[k % count]);
    Cost cost;
    cost.data = costs.data();
    cost.rows = static_cast<std::int64_t>(rows);
    cost.cols = static_cast<std::int64_t>(count);
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
    const std::vector<std::int32_t> y = std::move(answer.y);
    const std::vector<double> p = std::move(answer.p);
    answer.y.assign(static_cast<std::size_t>(source.cols()), -1);
    answer.p.assign(static_cast<std::size_t>(source.cols()), 0.0);
    for (std::size_t k = 0; k < count; k++) {
        answer.y[static_cast<std::size_t>(columns[k])] = y[k];
        answer.p[static_cast<std::size_t>(columns[k])] = p[k];
    }
    for (std::int32_t& j : answer.x) j = static_cast<std::int32_t>(columns[static_cast<std::size_t>(j)]);
    return answer;
}

}  // namespace loomfast::assignment
