"""A step of LOOM on the device that holds the cache: nothing of it is copied to the host or waited for.

The same as `Loom.pair_up` and `Loom.commit` in torch alone, with the same bits on the CPU. What the host's
version raises becomes a bit of a status on the device; such a step leaves the cache as it is.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from loomfast._arrays import is_tensor
from loomfast.assignment.torch_ops import solve_from_prices
from loomfast.cost import paired_cost, pairwise_cost
from loomfast.coupling.cache import improving_cycles, mean_of
from loomfast.coupling.interface import (
    Pair,
    Prepared,
    Stopwatch,
    Trouble,
    check_distinct,
    checked_batch,
)
from loomfast.noise import NoiseDomain, StepDomain, noise_from_ids
from loomfast.noise.torch_ops import step_words

_SOLVED = (0, 4)  # of `loomfast.assignment.STATUS`


@dataclass(frozen=True)
class Update:
    """What `commit` writes: flat places of the cache (B,), the int32 ids there before and after, prices."""

    places: torch.Tensor
    old_ids: torch.Tensor
    new_ids: torch.Tensor
    prices: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor | None
    status: torch.Tensor


def as_rows(x, index, coupler):
    """The items of a batch, (B,) int64 on the coupling's device; those of the host are checked there.

    Raises ValueError or TypeError as `Coupling.prepare`, but for items that are on a device already.
    """
    device = coupler.ids.device
    if not is_tensor(x) or x.device != device:
        where = x.device if is_tensor(x) else "the host, a NumPy array"
        raise ValueError(f"x must be a tensor on {device}, where this coupling is, got {where}")
    if not is_tensor(index) or index.device != device:
        rows = checked_batch(x, index, coupler.shape, coupler.num_items)
        check_distinct(rows)
        return torch.from_numpy(rows).to(device, non_blocking=True)
    if index.dim() != 1 or index.dtype.is_floating_point or index.dtype is torch.bool:
        raise ValueError(f"index must be a vector of integers, got shape {index.shape}, dtype {index.dtype}")
    checked_batch(x, np.arange(len(index)) % coupler.num_items, coupler.shape, coupler.num_items)
    return index.long()


def as_labels(labels, rows, coupler):
    """The batch's labels as (B,) int64 on the coupling's device, or None where labels do not count."""
    if coupler.labels is None:
        return None
    if labels is None:
        raise ValueError(f"labels are needed, one for each item: label_weight is {coupler.label_weight}")
    labels = labels if is_tensor(labels) else torch.from_numpy(np.array(labels))
    if labels.shape != rows.shape or labels.dtype.is_floating_point or labels.dtype is torch.bool:
        raise ValueError(
            f"labels must be {len(rows)} integers of 0 or more, "
            f"got shape {tuple(labels.shape)} {labels.dtype}"
        )
    return labels.to(rows.device, torch.int64, non_blocking=True)


def held_ids(coupler, rows, step):
    """(places, ids): where in the flat cache the noises are that a step chooses of items (B,), and which."""
    words = step_words(rows, seed=coupler.seed, step=step, domain=StepDomain.CACHE_CHOICE)
    places = rows * coupler.num_caches + ((words * coupler.num_caches) >> 32)
    return places, coupler.ids.view(-1)[places]


def pair_up(coupler, x, rows, step, labels):
    """The Prepared of a batch; ``rows`` and ``labels`` are those of `as_rows` and `as_labels`."""
    watch = Stopwatch()
    with watch("noise"):
        outside = ((rows < 0) | (rows >= coupler.num_items)).any()
        rows = rows.clamp(0, coupler.num_items - 1)
        ordered = rows.sort().values
        status = outside * Trouble.OUTSIDE + (ordered[1:] == ordered[:-1]).any() * Trouble.REPEATED
        places, old_ids = held_ids(coupler, rows, step)
        ids = old_ids.long()
        noise = noise_from_ids(ids, coupler.shape, seed=coupler.seed, domain=NoiseDomain.CACHE)
        pair_labels = None
        if labels is not None:
            known = coupler.labels[rows]
            status = status + (((known >= 0) & (known != labels)) | (labels < 0)).any() * Trouble.OTHER_LABELS
            pair_labels = labels, _labels_of(coupler, ids, rows, labels)
    with watch("cost"):
        cost = pairwise_cost(
            x,
            noise,
            metric=coupler.metric,
            labels=pair_labels,
            label_weight=coupler.label_weight,
            assignment_only=True,
            precision=coupler.precision,
        )
    with watch("solve"):
        found, prices, gap, solved = solve_from_prices(cost, coupler.prices[ids], coupler.tolerance)
    with watch("write"):
        status = (status + ((solved != _SOLVED[0]) & (solved != _SOLVED[1])) * Trouble.UNSOLVED).int()
        every = torch.arange(len(rows), device=rows.device)
        order, before, after = _strict_improvement(
            coupler, x, noise, torch.where(status == 0, found, every), pair_labels
        )
        new_ids = old_ids[order]
    pair = Pair(
        noise=noise[order],
        ids=ids[order],
        swaps=(order != every).sum(),
        cost_before=before,
        cost_after=after,
        gap=gap,
        seconds=watch.seconds,
        domain=NoiseDomain.CACHE,
        status=status,
    )
    return Prepared(pair, step, Update(places, old_ids, new_ids, prices, rows, labels, status))


def _labels_of(coupler, ids, rows, labels):
    """As `Loom._labels_of`: the label of the item that held a noise at first, known before or from here."""
    holders = ids // coupler.num_caches
    known = coupler.labels[holders]
    ordered, by_row = rows.sort()
    here = torch.searchsorted(ordered, holders).clamp(max=len(rows) - 1)
    return torch.where(known < 0, labels[by_row[here]], known)


def _strict_improvement(coupler, x, noise, order, labels):
    """As `Loom._strict_improvement`, for all pairs: which of them moved is not known on the host."""
    before = paired_cost(x, noise, metric=coupler.metric)
    after = paired_cost(x, noise[order], metric=coupler.metric)
    rounding = (math.prod(coupler.shape) + len(order)) * torch.finfo(torch.float64).eps
    differs = torch.zeros((2, len(order)), dtype=torch.float64, device=order.device)
    if labels is not None:
        differs = torch.stack((labels[0] != labels[1], labels[0] != labels[1][order])).double()
    weight = coupler.label_weight
    order = improving_cycles(order, before, after, rounding, weight=weight, change=differs[1] - differs[0])
    before, after = before + weight * differs[0], after + weight * differs[1]
    every = torch.arange(len(order), device=order.device)
    return order, mean_of(before), mean_of(torch.where(order == every, before, after))


def commit(coupler, update):
    """Write a batch's new pairs and prices back, where its status is 0 and its noises are where they were."""
    ids, prices = coupler.ids.view(-1), coupler.prices
    held = ids[update.places]
    stale = (held != update.old_ids).any()
    status = update.status + stale * Trouble.STALE
    good = status == 0
    ids.index_put_((update.places,), torch.where(good, update.new_ids, held))
    old = update.old_ids.long()
    known = prices[old]
    moved = update.prices - mean_of(update.prices) + mean_of(known)
    prices.index_put_((old,), torch.where(good, moved, known))
    if update.labels is not None:
        before = coupler.labels[update.rows]
        coupler.labels.index_put_((update.rows,), torch.where(good, update.labels, before))
    coupler.trouble.bitwise_or_(status.int())


def recall(coupler, x, rows, step):
    """The Pair that items (B,) hold in the caches the step chose, without swaps."""
    ids = held_ids(coupler, rows, step)[1].long()
    noise = noise_from_ids(ids, coupler.shape, seed=coupler.seed, domain=NoiseDomain.CACHE)
    cost = mean_of(paired_cost(x, noise, metric=coupler.metric))
    status = torch.zeros((), dtype=torch.int32, device=ids.device)
    swaps, gap = torch.zeros_like(status), torch.full_like(cost, math.nan)
    return Pair(noise, ids, (), swaps, cost, cost, gap, {}, NoiseDomain.CACHE, status)
