"""The baselines of the paper: independent noise, noise that is assigned inside the batch, a fixed source."""

from loomfast._arrays import to_numpy
from loomfast.cost import pairwise_cost
from loomfast.coupling.interface import Prepared, Stopwatch, solve_batch
from loomfast.coupling.memoryless import Fresh, FreshByCost
from loomfast.coupling.plans import draw_places


class Independent(Fresh):
    """Data and noise drawn independently: p(x, z) = p(x) p(z) (paper, Section 2.1).

    I-CFM of Tong et al. (2024). The arguments are those of `Fresh`.
    """

    method = "independent"
    summary = "as drawn (I-CFM, Tong et al. 2024)"

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) with new noise, of the kind and on the device of ``x`` (B, *shape)."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        return Prepared(self._pair(x, noise, ids, watch), step)


class MinibatchOT(FreshByCost):
    """New noise in every step, assigned optimally inside the batch, then forgotten.

    BatchOT of Pooladian et al. (2023), "Multisample flow matching"; the paper's ablation "without saving
    local reassignments" (Section 4.1). With ``replace`` it is OT-CFM as Tong et al. (2024) and their torchcfm
    have it: the pairs of a batch are drawn from its optimal plan, with replacement.

    Args:
        num_items, shape, seed, metric, source, dataset_fingerprint: as for `FreshByCost`.
        replace: whether pairs are drawn from the plan with replacement, so that an item may come twice in a
            batch or not at all (`Pair.rows`). Otherwise every item comes once.
    """

    method = "minibatch-ot"
    summary = "new noise, optimal in the batch (BatchOT, Pooladian et al. 2023; OT-CFM, Tong et al. 2024)"

    def __init__(self, num_items, shape, *, replace=False, **options):
        super().__init__(num_items, shape, **options)
        self.replace = bool(replace)

    @classmethod
    def options(cls, config):
        """Return the metric of a configuration and whether to draw with replacement, a dict."""
        return {**super().options(config), "replace": config.replace}

    def metadata(self):
        """Return what a state of this coupling belongs to, with ``replace`` where it is set."""
        return {**super().metadata(), **({"replace": True} if self.replace else {})}

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) of data ``x`` (B, *shape) with new noise, optimally in the batch."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        with watch("cost"):
            cost = pairwise_cost(x, noise, metric=self.metric, assignment_only=True)
        with watch("solve"):
            assignment = solve_batch(cost, x)
            order, drawn = to_numpy(assignment.col4row), None
            if self.replace:
                drawn = draw_places(len(order), seed=self.seed, step=step)
                order = order[drawn]
        more = {"order": order, "rows": drawn, "metric": self.metric, "gap": float(assignment.gap)}
        return Prepared(self._pair(x, noise, ids, watch, **more), step)


class FixedSource(FreshByCost):
    """Every item keeps the noise it had at first, for ever, and nothing is assigned.

    The paper's ablation "training with fixed source, without reassignments" (Section 4.1, Table 5). The
    arguments are those of `FreshByCost`.
    """

    method = "fixed-source"
    summary = "one noise an item for ever (LOOM-CFM's ablation, Section 4.1)"

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) with their noises, which are those of step 0 in every step."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, 0)
        return Prepared(self._pair(x, noise, ids, watch, metric=self.metric), step)
