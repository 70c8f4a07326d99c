// Thresholds: the pairs up to a cost hold a complete matching or Hall's condition fails for some rows, and then the
// cheapest pair that leaves those rows' neighbours is a lower bound. (R. Burkard, M. Dell'Amico and S. Martello,
// "Assignment Problems", SIAM 2009, section 6.2.)
#include "assignment/bottleneck.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/cpu/cardinality.hpp"
#include "assignment/cpu/source.hpp"
#include "assignment/sparse.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int64_t kLooks = 16;  // at entries, per row and column, that are hardly felt

// The pairs up to some cost, by rows.
struct Pairs {
    std::vector<std::int64_t> first{0};
    std::vector<std::int32_t> column;
    std::vector<double> cost;
};

// The least and the largest finite cost of a row, in lanes that the compiler makes vectors of.
struct RowBounds {
    static constexpr std::int32_t kLanes = 8;
    double low[kLanes], high[kLanes];

    RowBounds() {
        std::fill_n(low, kLanes, kInf);
        std::fill_n(high, kLanes, -kInf);
    }

    double least() const { return *std::min_element(low, low + kLanes); }
    double most() const { return *std::max_element(high, high + kLanes); }

    // Folds the row into the columns' minima, too; false if an entry is no cost.
    bool look(const double* c, std::int32_t m, double* column) {
        std::int32_t j = 0;
        bool costs = true;
        for (; j + kLanes <= m; j += kLanes) {
            unsigned bad = 0;
            for (std::int32_t k = 0; k < kLanes; k++) bad |= !(c[j + k] > -kInf);
            costs &= bad == 0;
            for (std::int32_t k = 0; k < kLanes; k++) fold(c[j + k], k, column[j + k]);
        }
        for (; j < m; j++) {
            costs &= c[j] > -kInf;
            fold(c[j], 0, column[j]);
        }
        return costs;
    }

private:
    void fold(double c, std::int32_t k, double& column) {
        const double finite = c < kInf ? c : -kInf;
        low[k] = c < low[k] ? c : low[k];
        high[k] = finite > high[k] ? finite : high[k];
        column = c < column ? c : column;
    }
};

class Search {
public:
    Search(const Source& source, Cancel* cancel)
        : source_(source), n_(std::int32_t(source.rows())), m_(std::int32_t(source.cols())), cancel_(cancel),
          x_(std::size_t(source.rows()), -1), y_(std::size_t(source.cols()), -1), buffer_(std::size_t(source.cols())) {}

    // Reads all costs once. False at an entry that is none, which `bad` is then.
    bool bounds(std::pair<std::int64_t, std::int64_t>* bad) {
        std::vector<double> column(std::size_t(m_), kInf);
        double largest_row = -kInf, smallest = kInf;
        for (std::int32_t i = 0; i < n_; i++) {
            const double* c = source_.row(i, buffer_.data());
            RowBounds row;
            if (!row.look(c, m_, column.data())) {
                std::int32_t j = 0;
                while (c[j] > -kInf) j++;
                return *bad = source_.origin(i, j), false;
            }
            least_.push_back(row.least());
            if (row.least() > largest_row) dearest_ = i;
            largest_row = std::max(largest_row, row.least());
            smallest = std::min(smallest, row.least());
            most_ = std::max(most_, row.most());
        }
        if (smallest < kInf) largest_ = std::max(std::fabs(smallest), std::fabs(most_));
        lower_ = largest_row;
        if (n_ == m_)
            for (const double c : column) lower_ = std::max(lower_, c);
        return true;
    }

    double largest() const { return largest_; }

    // The least threshold with a complete matching, which is then in `x`; false if there is none.
    bool solve() {
        double threshold = std::min(lower_, most_);
        if (take_first(threshold)) return true;
        collect(threshold);
        while (!complete(pairs_)) {
            if (cancelled() || threshold >= most_) return false;
            threshold = std::min(most_, std::max(next_bound(), denser(threshold)));
            collect(threshold);
        }
        bisect();
        return true;
    }

    bool cancelled() { return cancel_ && cancel_->look(); }

    double bottleneck() const { return upper_; }
    const std::vector<std::int32_t>& x() const { return x_; }
    const std::vector<std::int32_t>& crowded() const { return crowded_; }
    const std::vector<std::int32_t>& neighbours() const { return neighbours_; }
    const Pairs& pairs() const { return pairs_; }

    // Leaves in `crowded` why no pairs below the bottleneck will do.
    void prove() {
        neighbours_.clear();
        crowded_.assign(1, dearest_);
        if (least_[std::size_t(dearest_)] == upper_) return;
        if (pairs_.column.empty()) collect(std::nextafter(upper_, -kInf));
        const Pairs below = filtered([&](double c) { return c < upper_; });
        std::vector<std::int32_t> x(std::size_t(n_), -1), y(std::size_t(m_), -1);
        match_most(graph(below), x, y, crowded_, neighbours_, cancel_);
    }

    // Keeps the pairs up to the bottleneck.
    void keep_allowed() {
        if (taken_first_) collect(upper_);
        else pairs_ = filtered([&](double c) { return c <= upper_; });
    }

private:
    Adjacency graph(const Pairs& pairs) const { return {n_, m_, pairs.first.data(), pairs.column.data()}; }

    // Gives each row the first free column up to the threshold, a lower bound of the bottleneck, as long as these are soon
    // found: where most costs are equal, that is all there is to do.
    bool take_first(double threshold) {
        std::int64_t left = kLooks * (std::int64_t{n_} + m_);
        std::int32_t start = 0;
        bool all = true;
        for (std::int32_t i = 0; all && i < n_; i++) {
            const double* c = source_.row(i, buffer_.data());
            while (start < m_ && y_[std::size_t(start)] >= 0) start++;
            std::int32_t j = start;
            while (j < m_ && left-- > 0 && (y_[std::size_t(j)] >= 0 || !(c[j] <= threshold))) j++;
            all = j < m_ && left >= 0;
            if (!all) break;
            x_[std::size_t(i)] = j;
            y_[std::size_t(j)] = i;
            upper_ = i == 0 ? c[j] : std::max(upper_, c[j]);
        }
        taken_first_ = all;
        if (all) return true;
        std::fill(x_.begin(), x_.end(), -1);
        upper_ = kInf;
        return false;
    }

    void collect(double threshold) {
        pairs_ = {};
        const std::size_t width = std::size_t(m_);
        std::size_t count = 0;
        for (std::int32_t i = 0; i < n_; i++) {
            if (least_[std::size_t(i)] > threshold) {
                pairs_.first.push_back(std::int64_t(count));
                continue;
            }
            const double* c = source_.row(i, buffer_.data());
            if (pairs_.column.size() < count + width) {
                pairs_.column.resize(2 * (count + width));
                pairs_.cost.resize(2 * (count + width));
            }
            for (std::size_t j = 0; j < width; j++) {  // the next one overwrites what is too dear
                pairs_.column[count] = std::int32_t(j);
                pairs_.cost[count] = c[j];
                count += c[j] <= threshold;
            }
            pairs_.first.push_back(std::int64_t(count));
        }
        pairs_.column.resize(count);
        pairs_.cost.resize(count);
    }

    template <class Keep>
    Pairs filtered(Keep&& keep) const {
        Pairs found;
        found.first.reserve(pairs_.first.size());
        for (std::size_t i = 0; i < std::size_t(n_); i++) {
            for (std::int64_t e = pairs_.first[i]; e < pairs_.first[i + 1]; e++)
                if (keep(pairs_.cost[std::size_t(e)])) {
                    found.column.push_back(pairs_.column[std::size_t(e)]);
                    found.cost.push_back(pairs_.cost[std::size_t(e)]);
                }
            found.first.push_back(std::int64_t(found.column.size()));
        }
        return found;
    }

    // Whether the pairs hold a complete matching: then it is x, and `upper_` its dearest pair.
    bool complete(const Pairs& pairs) {
        std::vector<std::int32_t> x(std::size_t(n_), -1), y(std::size_t(m_), -1);
        for (std::size_t i = 0; i < std::size_t(n_); i++)  // goes on from what was found last
            for (std::int64_t e = pairs.first[i]; e < pairs.first[i + 1] && x_[i] >= 0; e++)
                if (pairs.column[std::size_t(e)] == x_[i]) {
                    x[i] = x_[i];
                    y[std::size_t(x_[i])] = std::int32_t(i);
                    break;
                }
        const std::int64_t left = match_most(graph(pairs), x, y, crowded_, neighbours_, cancel_);
        if (left != 0) {
            if (!found_) x_ = std::move(x);
            return false;
        }
        found_ = true;
        x_ = std::move(x);
        upper_ = -kInf;
        for (std::size_t i = 0; i < std::size_t(n_); i++)
            for (std::int64_t e = pairs.first[i]; e < pairs.first[i + 1]; e++)
                if (pairs.column[std::size_t(e)] == x_[i]) upper_ = std::max(upper_, pairs.cost[std::size_t(e)]);
        return true;
    }

    // The cheapest pair that leads from the crowded rows to other columns than their neighbours.
    double next_bound() {
        std::vector<char> inside(std::size_t(m_), 0);
        for (const std::int32_t j : neighbours_) inside[std::size_t(j)] = 1;
        double least = kInf;
        for (const std::int32_t i : crowded_) {
            const double* c = source_.row(i, buffer_.data());
            for (std::int32_t j = 0; j < m_; j++)
                if (!inside[std::size_t(j)]) least = std::min(least, c[j]);
        }
        lower_ = std::max(lower_, least);
        return least;
    }

    // A threshold that about twice as many pairs are below.
    double denser(double threshold) {
        if (sample_.empty()) {
            const std::int32_t rows = std::min(n_, 128), cols = std::min(m_, 256);
            for (std::int32_t a = 0; a < rows; a++) {
                const double* c = source_.row(std::int64_t{a} * n_ / rows, buffer_.data());
                for (std::int32_t b = 0; b < cols; b++) {
                    const double cost = c[(std::int64_t{b} * m_ / cols + 31 * std::int64_t{a}) % m_];
                    if (cost < kInf) sample_.push_back(cost);
                }
            }
            std::sort(sample_.begin(), sample_.end());
        }
        const auto below = std::upper_bound(sample_.begin(), sample_.end(), threshold) - sample_.begin();
        const auto at = std::size_t(2 * below + 8);
        return at < sample_.size() ? sample_[at] : most_;
    }

    // Between the lower bound and a threshold that will do.
    void bisect() {
        std::vector<double> values;
        for (const double c : pairs_.cost)
            if (c >= lower_ && c <= upper_) values.push_back(c);
        std::sort(values.begin(), values.end());
        values.erase(std::unique(values.begin(), values.end()), values.end());
        std::size_t low = 0, high = index_of(values, upper_);
        while (low < high && !cancelled()) {
            const std::size_t middle = low + (high - low) / 2;
            if (complete(filtered([&](double c) { return c <= values[middle]; }))) {
                high = index_of(values, upper_);
            } else {
                low = std::max(middle + 1, index_of(values, outside()));
            }
        }
    }

    static std::size_t index_of(const std::vector<double>& values, double value) {
        return std::size_t(std::lower_bound(values.begin(), values.end(), value) - values.begin());
    }

    // As `next_bound`, among the pairs at hand.
    double outside() const {
        std::vector<char> inside(std::size_t(m_), 0);
        for (const std::int32_t j : neighbours_) inside[std::size_t(j)] = 1;
        double least = upper_;
        for (const std::int32_t i : crowded_) {
            const auto end = std::size_t(pairs_.first[std::size_t(i) + 1]);
            for (auto e = std::size_t(pairs_.first[std::size_t(i)]); e < end; e++)
                if (!inside[std::size_t(pairs_.column[e])]) least = std::min(least, pairs_.cost[e]);
        }
        return least;
    }

    const Source& source_;
    const std::int32_t n_, m_;
    Cancel* cancel_;
    double lower_ = -kInf, upper_ = kInf, largest_ = 0.0, most_ = -kInf;
    bool found_ = false, taken_first_ = false;
    Pairs pairs_;
    std::vector<std::int32_t> x_, y_, crowded_, neighbours_;
    std::vector<double> buffer_, sample_, least_;  // least_: of each row
    std::int32_t dearest_ = 0;                     // the row of which that is the largest
};

void write(const Source& source, const Search& search, BottleneckOutput& out) {
    std::int64_t* rows = source.transposed() ? out.row4col : out.col4row;
    std::int64_t* cols = source.transposed() ? out.col4row : out.row4col;
    double total = 0.0;
    if (cols) std::fill(cols, cols + source.cols(), std::int64_t{-1});
    for (std::int64_t i = 0; i < source.rows(); i++) {
        const std::int64_t j = search.x()[std::size_t(i)];
        if (rows) rows[i] = j;
        if (cols) cols[j] = i;
        total += source.at(i, j);
    }
    out.total = source.sign() * total + 0.0;
    out.gap = 0.0;
}

// The cheapest matching of the pairs that are left.
void cheapest(const Source& source, const Search& search, const Options& options, BottleneckOutput& out) {
    const Pairs& pairs = search.pairs();
    std::vector<double> costs = pairs.cost;
    double largest = 0.0;
    for (double& c : costs) {
        c *= source.sign();
        largest = std::max(largest, std::fabs(c));
    }
    if (is_integer(source.dtype()) && double(source.rows()) * largest >= 0x1p53) {
        out.status = Status::inexact_integers;
        return;
    }
    SparseCost cost;
    cost.layout = source.transposed() ? Layout::compressed_columns : Layout::compressed_rows;
    cost.data = costs.data();
    cost.major = {pairs.first.data(), true};
    cost.minor = {pairs.column.data(), false};
    cost.rows = source.transposed() ? source.cols() : source.rows();
    cost.cols = source.transposed() ? source.rows() : source.cols();
    cost.entries = std::int64_t(costs.size());
    cost.maximize = source.sign() < 0;
    SparseOutput found;
    static_cast<Output&>(found) = out;
    solve_sparse(cost, options, found);
    static_cast<Output&>(out) = found;
    if (is_integer(source.dtype())) out.gap = std::floor(out.gap);
}

}  // namespace

void solve_bottleneck(const Cost& cost, bool then_sum, const Options& options, BottleneckOutput& output) {
    const Source source(cost);
    Search search(source, options.cancel);
    output.status = Status::cancelled;
    std::pair<std::int64_t, std::int64_t> bad;
    if (!search.bounds(&bad)) {
        output.status = Status::invalid_entry;
        output.bad_row = bad.first;
        output.bad_col = bad.second;
        return;
    }
    if (is_integer(cost.dtype) && search.largest() > 0x1p53) {
        output.status = Status::inexact_integers;
        return;
    }
    const bool found = source.rows() == 0 || search.solve();
    if (search.cancelled()) return;
    if (found && source.rows() > 0) search.prove();
    output.crowded.assign(search.crowded().begin(), search.crowded().end());
    output.neighbours.assign(search.neighbours().begin(), search.neighbours().end());
    std::sort(output.crowded.begin(), output.crowded.end());
    std::sort(output.neighbours.begin(), output.neighbours.end());
    output.status = found ? Status::optimal : Status::infeasible;
    if (!found) return;
    write(source, search, output);
    output.bottleneck = source.rows() == 0 ? 0.0 : source.sign() * search.bottleneck() + 0.0;
    output.stats.path = "bottleneck";
    if (!then_sum || source.rows() == 0) return;
    search.keep_allowed();
    cheapest(source, search, options, output);
}

}  // namespace loomfast::assignment
