"""The batches of a training run: which items a step takes, their data, and the noise they are coupled with.

Everything here is a function of (seed, step, item), but for what the coupling learnt.
"""

import numpy as np
import torch

from loomfast._arrays import cores
from loomfast.coupling import Ahead, build_coupler
from loomfast.coupling.interface import recalled
from loomfast.coupling.shared import SharedCoupler
from loomfast.data import coupled_items
from loomfast.noise import StepDomain, step_bits, step_uniforms


class Batches:
    """Gives every training step its coupled batch.

    With ``coupling.ot_batch`` = K one *OT batch*, of K training batches, is coupled at once, and its pairs
    feed K steps. Where it pays, the next OT batch is coupled while the network trains on this one.

    Args:
        config: a TrainConfig.
        dataset: a Dataset that fits it; see `loomfast.training.checks.check_fit`.
        world: the processes that train together.
        fresh: whether the run begins here, and not at a checkpoint.

    Attributes:
        coupler: the coupling. data: (num_items, ...) the training items, a float32 tensor, or a `Streamed`
            that is read by the batch.
        labels: int64 or float32 array, of the mirrored items too, or what reads them by the batch; or None.
    """

    def __init__(self, config, dataset, world, *, fresh=True):
        self.config, self.world = config, world
        self.data = dataset.train
        if isinstance(self.data, np.ndarray):
            self.data = place(torch.from_numpy(self.data), world.device)
        self.num_items = len(self.data)
        num_coupled, take, self.labels, fingerprint = coupled_items(dataset, config.flips)
        coupler = build_coupler(
            config.coupling,
            num_coupled,
            dataset.train.shape[1:],
            seed=config.seed,
            fingerprint=fingerprint,
            data=lambda: take(np.arange(num_coupled)),
            labels=self.labels,
            fresh=fresh,
        )
        if world.device.type == "cuda" and world.size == 1 and coupler.can_be_on(world.device):
            coupler.to(world.device)
        self.coupler = SharedCoupler(coupler, world) if world.size > 1 else coupler
        self._epoch, self._order = -1, None
        self._group, self._batch, self._part_taken = None, None, 0
        ahead = works_ahead(config.coupling.prefetch, world.device)
        self._ahead = Ahead(self.coupler, self.batch_at, enabled=ahead, device=world.device)

    def take(self, step):
        """The coupled items of a training step, and the Pair if a coupling was computed for this step.

        The steps are taken one after the other. The first of those that an OT batch feeds gets the Pair, the
        others None.

        Returns:
            (dict, Pair or None): ``x`` and ``noise`` (B, *shape), ``index`` (B,), ``labels`` (B,) if any; and
            ``draws`` (B,) int64, what the times and all else that is drawn for an item are functions of.
        """
        k = self.config.coupling.ot_batch
        group, self._part_taken = divmod(step, k)
        pair = None
        if self._part_taken == 0:
            batch, pair = self._ahead.take(group, last=(group + 1) * k >= self.config.steps)
            self._group, self._batch = group, coupled_batch(batch, pair)
        elif group != self._group:  # after a restart: the coupling has this OT batch's pairs already
            batch = self.batch_at(group)
            found = recalled(self.coupler, batch["x"], batch["index"], group, batch.get("labels"))
            self._group, self._batch = group, coupled_batch(batch, found)
        return self.last(), pair

    def last(self):
        """Return what `take` gave last, without the Pair; None before it gave any."""
        if self._batch is None:
            return None
        first = self._part_taken * self.config.batch_size
        return {name: value[first : first + self.config.batch_size] for name, value in self._batch.items()}

    def parts(self):
        """Return the parts of a batch that this process takes one by one: [(number in the batch, rows)]."""
        accumulate = self.config.accumulate
        size = self.config.batch_size // (self.world.size * accumulate)
        first = self.world.rank * accumulate
        return [(n, slice(n * size, (n + 1) * size)) for n in range(first, first + accumulate)]

    def items(self, group):
        """Return the items of an OT batch, as the coupling takes them: (ot_batch * B,) int64."""
        num = self.config.batch_size * self.config.coupling.ot_batch
        return self.coupler.items(group, num, self.items_in_turn)

    def items_in_turn(self, group, num):
        """Return the items whose turn it is, by an order that changes every epoch: (num,) int64.

        With flips, item i + N is the mirror image of item i, and which of them comes is a function of (seed,
        step, i).
        """
        config = self.config
        epoch, batch = divmod(group, self.num_items // num)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, data_order(self.num_items, config.seed, epoch)
        index = self._order[batch * num :][:num]
        if not config.flips:
            return index
        steps = range(group * config.coupling.ot_batch, (group + 1) * config.coupling.ot_batch)
        parts = zip(steps, np.split(index, len(steps)), strict=True)
        return np.concatenate(
            [part + self.num_items * flipped(part, config.seed, step) for step, part in parts]
        )

    def batch_at(self, group):
        """Return a group's OT batch, not coupled yet: a dict of ``x``, ``index``, and ``labels`` if any."""
        index = self.items(group)
        x = self._read(index % self.num_items)
        if self.config.flips:
            mirrored = torch.from_numpy(index >= self.num_items).to(x.device)
            x = torch.where(mirrored.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        batch = {"x": x.to(self.world.device), "index": index}
        return batch if self.labels is None else {**batch, "labels": self.labels[index]}

    def _read(self, rows):
        """Return the data of items (B,) as a tensor (B, ...), from memory or from their files."""
        if isinstance(self.data, torch.Tensor):
            return self.data[torch.from_numpy(rows).to(self.data.device)]
        return torch.from_numpy(self.data[rows])

    def join(self):
        """Couple as one with the other processes from here on; all of them must come here."""
        if self.world.size > 1:
            self.coupler.join()

    def close(self):
        """Stop coupling the next batch ahead."""
        self._ahead.close()


def coupled_batch(batch, pair):
    """Return a batch with the noise of its Pair, and with the items that the Pair takes.

    An item that comes twice has two different times: its draws go by the place in the batch.
    """
    if pair.rows is None:
        return {**batch, "noise": pair.noise, "draws": batch["index"]}
    rows = pair.rows
    taken = {name: value[rows] for name, value in batch.items()}
    return {**taken, "noise": pair.noise, "draws": np.arange(len(rows))}


def works_ahead(prefetch, device):
    """Return whether to couple ahead while the network trains; auto: with a GPU or a core to spare."""
    if prefetch != "auto":
        return prefetch == "on"
    return device.type == "cuda" or cores() > torch.get_num_threads()


def place(data, device):
    """Return the data on the device if they take at most a quarter of its free memory, else as they are."""
    if device.type == "cuda" and data.nbytes <= torch.cuda.mem_get_info(device)[0] // 4:
        return data.to(device)
    return data


def data_order(num_items, seed, epoch):
    """Return the order of the data in an epoch, (num_items,) int64, a function of (seed, epoch)."""
    bits = step_bits(np.arange(num_items), 2, seed=seed, step=epoch, domain=StepDomain.DATA_ORDER)
    keys = bits[:, 0].astype(np.uint64) << np.uint64(32) | bits[:, 1]
    return np.argsort(keys, kind="stable")


def flipped(items, seed, step):
    """Return which items are mirrored, (B,) bool, each with probability 1/2, by (seed, step, item)."""
    return step_uniforms(items, 1, seed=seed, step=step, domain=StepDomain.FLIP)[:, 0] < 0.5
