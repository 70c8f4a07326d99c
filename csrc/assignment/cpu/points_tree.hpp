// Points with a price each in a k-d tree, whose nodes know the box of their points and two bounds of the prices among
// them: the least, and a plane that no price is below. What a row asks for, the K points of the least cost plus price,
// is found by branch and bound. Near an optimum prices follow a smooth function of the place, whose slope cancels that
// of the costs: the least price of a box would bound little there, a plane bounds nearly all.
//
// J. L. Bentley, "Multidimensional binary search trees used for associative searching", CACM 18(9), 1975.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "assignment/points.hpp"

namespace loomfast::assignment {

constexpr int kLeaf = 8;  // points of a leaf, worked on together
constexpr std::int64_t kFitted = 16;  // leaves of a node by which its plane is fitted

// Costs of pairs of points; D is their dimension, 0 where it is known at run time only.
template <int D>
struct Space {
    int dimensions;
    Metric metric;

    int d() const { return D > 0 ? D : dimensions; }

    double of_sum(double sum) const {
        return metric == Metric::euclidean ? std::sqrt(sum) : metric == Metric::dot ? -sum : sum;
    }
    double cost(const double* x, const double* z, std::int64_t stride = 1) const {
        double sum = 0.0;
        for (int k = 0; k < d(); ++k) {
            const double other = z[k * stride], difference = x[k] - other;
            sum += metric == Metric::dot ? x[k] * other : difference * difference;
        }
        return of_sum(sum);
    }
    // No point of the box is cheaper. Each step rounds as `cost` does or less, so that this holds for what is computed.
    double least_cost(const double* x, const double* low, const double* high) const {
        double sum = 0.0;
        for (int k = 0; k < d(); ++k) {
            if (metric == Metric::dot) {
                sum += std::max(x[k] * low[k], x[k] * high[k]);
            } else {
                const double difference = std::max(0.0, std::max(low[k] - x[k], x[k] - high[k]));
                sum += difference * difference;
            }
        }
        return of_sum(sum);
    }
    // The least that cost and the plane of these halved slopes come to in the box, up to rounding of `kSlack` of the
    // costs here and of the plane's terms. Of no use for the euclidean metric.
    double least_with_plane(const double* x, const double* low, const double* high, const double* half) const {
        double sum = 0.0, plane = 0.0;
        for (int k = 0; k < d(); ++k) {
            if (metric == Metric::dot) {
                const double slope = 2.0 * half[k] - x[k];
                plane += std::min(slope * low[k], slope * high[k]);
                sum += std::max(std::fabs(x[k] * low[k]), std::fabs(x[k] * high[k]));
            } else {
                const double z = std::min(std::max(x[k] - half[k], low[k]), high[k]);
                plane += 2.0 * half[k] * z;
                sum += (x[k] - z) * (x[k] - z);
            }
        }
        return metric == Metric::dot ? plane - kSlack * sum : plane + (1.0 - kSlack) * sum;
    }
    static constexpr double kSlack = 0x1p-46;
};

// Points are numbered by their place in the tree; `original` says where they came from. 
template <int D>
class PriceTree {
  public:
    static constexpr double kInf = std::numeric_limits<double>::infinity();

    PriceTree(const Space<D>& space, const double* points, std::int64_t count)
        : space_(space), order_(count), stride_(3 * space.d() + 2) {
        const std::int64_t leaves = (count + kLeaf - 1) / kLeaf;
        std::iota(order_.begin(), order_.end(), 0);
        coordinates_.assign(leaves * kLeaf * space.d(), 0.0);
        price_.assign(leaves * kLeaf, kInf);
        leaf_node_.resize(leaves);
        nodes_.reserve(2 * leaves);
        bounds_.reserve(2 * leaves * stride_);
        add_node(-1);
        build(points, 0, 0, count);
        for (std::int64_t j = 0; j < count; ++j) {
            for (int k = 0; k < space.d(); ++k) at(j)[k * kLeaf] = points[order_[j] * space.d() + k];
            price_[j] = 0.0;
        }
    }

    std::int64_t count() const { return static_cast<std::int64_t>(order_.size()); }
    std::int32_t original(std::int64_t j) const { return order_[j]; }
    double price(std::int64_t j) const { return price_[j]; }
    double cost(const double* x, std::int64_t j) const { return space_.cost(x, at(j), kLeaf); }
    void copy_point(std::int64_t j, double* to) const {
        for (int k = 0; k < space_.d(); ++k) to[k] = at(j)[k * kLeaf];
    }

    template <class Price>
    void set_prices(const Price& price) {
        for (std::int64_t j = 0; j < count(); ++j) price_[j] = price(j);
        for (std::int64_t i = static_cast<std::int64_t>(nodes_.size()) - 1; i >= 0; --i) least(i) = least_of(i);
        fit_planes();
    }
    void raise(std::int32_t j, double price) {
        price_[j] = price;
        for (std::int32_t i = leaf_node_[j / kLeaf]; i >= 0; i = nodes_[i].parent) {
            const double found = least_of(i);
            if (found == least(i)) break;
            least(i) = found;
        }
    }
    void lower(std::int32_t j, double price) {
        price_[j] = price;
        for (std::int32_t i = leaf_node_[j / kLeaf]; i >= 0; i = nodes_[i].parent) {
            least(i) = std::min(least(i), price);
            offset(i) = std::min(offset(i), offset_of(i, j));
        }
    }
    // What a point costs from the nearest near it in the tree, on average.
    double spacing() const;
    template <class Archive>
    void visit(Archive& archive) {  // prices and what bounds them
        archive(price_), archive(bounds_);
    }
    // Planes as near to the prices as they can be; those of before stay right while prices rise.
    void fit_planes() {
        for (std::int64_t i = 0; i < static_cast<std::int64_t>(nodes_.size()); ++i) fit_plane(i);
    }

    // The `most` points of the least cost plus price, ascending, as columns and values; no others than those below
    // `worst`. Returns how many were found.
    int search(const double* x, int most, std::int32_t* columns, double* values, double worst = kInf) const {
        struct Waiting {
            std::int32_t node;
            double bound;
        } stack[64];
        int found = 0, waiting = 0;
        stack[waiting++] = {0, -kInf};
        while (waiting > 0) {
            const auto [from, from_bound] = stack[--waiting];
            if (from_bound >= worst) continue;
            std::int32_t node = from;
            while (node >= 0 && nodes_[node].left >= 0) {
                std::int32_t near = nodes_[node].left, far = near + 1;
                double near_bound = bound(x, near), far_bound = bound(x, far);
                if (far_bound < near_bound) std::swap(near, far), std::swap(near_bound, far_bound);
                if (far_bound < worst) stack[waiting++] = {far, far_bound};
                node = near_bound < worst ? near : -1;
            }
            if (node < 0) continue;
            const std::int32_t first = nodes_[node].first;
            double here[kLeaf];
            values_of_leaf(x, first, here);
            for (int k = 0; k < kLeaf; ++k) {
                if (!(here[k] < worst)) continue;
                int place = found < most ? found++ : most - 1;
                for (; place > 0 && values[place - 1] > here[k]; --place) {
                    values[place] = values[place - 1];
                    columns[place] = columns[place - 1];
                }
                values[place] = here[k];
                columns[place] = first + k;
                if (found == most) worst = std::min(worst, values[most - 1]);
            }
        }
        return found;
    }

  private:
    // left: of two children. first, past: its points.
    struct Node {
        std::int32_t left = -1, parent = -1, first = -1, past = -1;
    };

    double* at(std::int64_t j) { return &coordinates_[j / kLeaf * kLeaf * space_.d() + j % kLeaf]; }
    const double* at(std::int64_t j) const { return &coordinates_[j / kLeaf * kLeaf * space_.d() + j % kLeaf]; }

    // A node's box from `low` to `high`, halved slopes and offset of its plane, and its least price.
    double* low(std::int64_t node) { return &bounds_[node * stride_]; }
    double* high(std::int64_t node) { return low(node) + space_.d(); }
    double* half(std::int64_t node) { return low(node) + 2 * space_.d(); }
    double& offset(std::int64_t node) { return low(node)[3 * space_.d()]; }
    double& least(std::int64_t node) { return low(node)[3 * space_.d() + 1]; }

    double bound(const double* x, std::int32_t node) const {
        const int d = space_.d();
        const double* of = &bounds_[std::int64_t{node} * stride_];
        const double least = of[3 * d + 1];
        const double box = space_.least_cost(x, of, of + d) + least;
        if (space_.metric == Metric::euclidean) return box;
        return std::max(box, space_.least_with_plane(x, of, of + d, of + 2 * d) + of[3 * d]);
    }

    void values_of_leaf(const double* x, std::int32_t first, double* values) const {
        const double *points = at(first), *prices = &price_[first];
        double sums[kLeaf] = {};
        if (x) {
            for (int k = 0; k < space_.d(); ++k) {
                const double own = x[k], *other = points + k * kLeaf;
                if (space_.metric == Metric::dot) {
                    for (int l = 0; l < kLeaf; ++l) sums[l] += own * other[l];
                } else {
                    for (int l = 0; l < kLeaf; ++l) sums[l] += (own - other[l]) * (own - other[l]);
                }
            }
            for (int l = 0; l < kLeaf; ++l) sums[l] = space_.of_sum(sums[l]);
        }
        for (int l = 0; l < kLeaf; ++l) values[l] = sums[l] + prices[l];
    }

    double least_of(std::int64_t i) const {
        const Node& node = nodes_[i];
        if (node.left < 0) return *std::min_element(&price_[node.first], &price_[node.first] + kLeaf);
        const double* left = &bounds_[node.left * stride_ + stride_ - 1];
        return std::min(left[0], left[stride_]);
    }

    // What the plane of these slopes leaves of a point's price, with a reserve for rounding.
    double offset_of(std::int64_t node, std::int64_t j) {
        double left = price_[j], size = std::fabs(price_[j]);
        for (int k = 0; k < space_.d(); ++k) {
            const double rise = 2.0 * half(node)[k] * at(j)[k * kLeaf];
            left -= rise;
            size += std::fabs(rise);
        }
        return left - Space<D>::kSlack * size;
    }

    // Slopes by least squares over some of the points, a coordinate after the other on what those before have left.
    void fit_plane(std::int64_t node) {
        const std::int64_t first = nodes_[node].first, past = nodes_[node].past;
        const std::int64_t leaves = (past - first + kLeaf - 1) / kLeaf, step = std::max<std::int64_t>(1, leaves / kFitted);
        const int d = space_.d();
        double* slope = half(node);
        std::fill_n(slope, d, 0.0);
        double left[2 * kFitted * kLeaf];
        std::int64_t count = 0;
        const auto each = [&](const auto& visit) {
            std::int64_t place = 0;
            for (std::int64_t leaf = 0; leaf < leaves; leaf += step)
                for (std::int64_t j = first + leaf * kLeaf; j < std::min(past, first + (leaf + 1) * kLeaf); ++j)
                    visit(j, place++);
        };
        double mean = 0.0;
        each([&](std::int64_t j, std::int64_t i) { mean += left[i] = price_[j], count = i + 1; });
        mean /= static_cast<double>(count);
        for (std::int64_t i = 0; i < count; ++i) left[i] -= mean;
        for (int k = 0; k < d; ++k) {
            double middle = 0.0, square = 0.0, product = 0.0;
            each([&](std::int64_t j, std::int64_t) { middle += at(j)[k * kLeaf]; });
            middle /= static_cast<double>(count);
            each([&](std::int64_t j, std::int64_t i) {
                const double apart = at(j)[k * kLeaf] - middle;
                square += apart * apart;
                product += apart * left[i];
            });
            const double rise = product / square;
            if (!std::isfinite(rise)) continue;
            each([&](std::int64_t j, std::int64_t i) { left[i] -= rise * (at(j)[k * kLeaf] - middle); });
            slope[k] = 0.5 * rise;
        }
        double most = kInf;
        for (std::int64_t j = first; j < past; ++j) most = std::min(most, offset_of(node, j));
        offset(node) = most;
    }

    void add_node(std::int32_t parent) {
        nodes_.push_back({-1, parent, -1, -1});
        bounds_.resize(bounds_.size() + stride_);
    }

    // Halves of whole leaves along the longest side of the box: every leaf but the last is full.
    void build(const double* points, std::int32_t node, std::int64_t begin, std::int64_t end) {
        const int d = space_.d();
        double *low = this->low(node), *high = this->high(node);
        std::fill(low, high, kInf);
        std::fill(high, high + d, -kInf);
        for (std::int64_t j = begin; j < end; ++j) {
            for (int k = 0; k < d; ++k) {
                const double value = points[order_[j] * d + k];
                low[k] = std::min(low[k], value);
                high[k] = std::max(high[k], value);
            }
        }
        nodes_[node].first = static_cast<std::int32_t>(begin);
        nodes_[node].past = static_cast<std::int32_t>(end);
        if (end - begin <= kLeaf) {
            leaf_node_[begin / kLeaf] = node;
            return;
        }
        int axis = 0;
        for (int k = 1; k < d; ++k)
            if (high[k] - low[k] > high[axis] - low[axis]) axis = k;
        const std::int64_t leaves = (end - begin + kLeaf - 1) / kLeaf, middle = begin + (leaves + 1) / 2 * kLeaf;
        const auto coordinate = [&](std::int32_t i) { return points[std::int64_t{i} * d + axis]; };
        std::nth_element(order_.begin() + begin, order_.begin() + middle, order_.begin() + end,
                         [&](std::int32_t a, std::int32_t b) { return coordinate(a) < coordinate(b); });
        const auto left = static_cast<std::int32_t>(nodes_.size());
        add_node(node);
        add_node(node);
        nodes_[node].left = left;
        build(points, left, begin, middle);
        build(points, left + 1, middle, end);
    }

    Space<D> space_;
    std::vector<std::int32_t> order_, leaf_node_;
    std::vector<double> coordinates_, price_, bounds_;  // of a leaf all first coordinates, all second ones, ...
    std::vector<Node> nodes_;
    std::int64_t stride_;
};

template <int D>
double PriceTree<D>::spacing() const {
    const std::int64_t columns = count(), samples = 200;
    Space<D> plain = space_;
    if (plain.metric == Metric::dot) plain.metric = Metric::sqeuclidean;  // twice its differences
    std::vector<double> point(space_.d()), other(space_.d());
    double sum = 0.0;
    for (std::int64_t k = 0; k < samples; ++k) {
        const std::int64_t j = k * (columns - 1) / (samples - 1);
        copy_point(j, point.data());
        double least = PriceTree<D>::kInf;
        for (std::int64_t i = std::max<std::int64_t>(0, j - 64); i < std::min(columns, j + 64); ++i) {
            if (i == j) continue;
            copy_point(i, other.data());
            least = std::min(least, plain.cost(point.data(), other.data()));
        }
        sum += least;
    }
    return sum / static_cast<double>(samples) * (space_.metric == Metric::dot ? 0.5 : 1.0);
}

}  // namespace loomfast::assignment
