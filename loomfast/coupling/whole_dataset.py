"""The exact coupling of a whole dataset: all items against all their noises, or exact blocks, swept.

The paper improves the coupling batch by batch (LOOM-CFM, equations 9 and 10) because it holds the whole
problem, equation 7, infeasible (Section 3.1).
For 50,000 images it is one matrix of 10 GB and seconds of solving.
"""

import hashlib
import json
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from loomfast._arrays import FLOATS, count, finite, integer, is_tensor, name_of_dtype, to_numpy
from loomfast._limits import free_memory, most_memory
from loomfast.assignment import solve
from loomfast.cost import paired_cost, pairwise_cost_from_ids
from loomfast.coupling.cache import improving_cycles
from loomfast.coupling.interface import Stopwatch, like
from loomfast.coupling.row_store import RowStore
from loomfast.files import read_tensors, readable, write_tensors
from loomfast.noise import NoiseDomain, StepDomain, noise_from_ids, step_bits

OPERATIONS_A_CHUNK = 2e12  # of the product: about 10 s, after which progress is told and kept
PAIRS_A_CHUNK = 1 << 21  # numbers of noise held at a time where pairs are looked at one by one
KEEP_AFTER = 5.0  # seconds of work on a matrix from which it is worth keeping on disk
MOST_ON_DEVICE = 1 << 20  # rows and columns that `solve` takes on a GPU
LEAST_BLOCK = 64  # items; smaller blocks are what LOOM's batches are for


@dataclass
class GlobalCoupling:
    """What `solve_globally` did.

    Attributes:
        cost_independent: mean cost of a pair of the first coupling, item i with its own noises.
        cost_before, cost_after: mean cost of a pair before and after (float64, computed directly).
        gap: proven bound on how far cost_after is from the optimum, in the costs that were solved; nan for
            more than one block, where each block is optimal and nothing is proven of the whole.
        num_blocks: blocks the items are divided into; 1 is the exact coupling of everything.
        sweeps: how often all blocks were solved, each time with other items together.
        swaps: how many noises moved, over all blocks and sweeps.
        seconds: wall time by part, ``cost``, ``solve``, ``write``, over all processes that took part.
    """

    cost_independent: float
    cost_before: float
    cost_after: float
    gap: float
    num_blocks: int
    sweeps: int = 0
    swaps: int = 0
    seconds: dict | None = None


def solve_globally(
    coupler,
    data,
    *,
    labels=None,
    memory=None,
    min_gain=1e-3,
    max_sweeps=50,
    folder=None,
    progress=None,
):
    """Make a `Loom` the optimal coupling of its dataset, all caches at once.

    If the matrix of all items against all noises fits into ``memory``, with the rows of an item's caches
    shared, it is solved as one problem. Otherwise the items are divided at random into blocks of equal size,
    the largest that fit, each is solved exactly, and this is repeated with other blocks until a sweep gains
    less than ``min_gain`` of what all have gained. Noise is generated where it is needed and never stored.

    Where the coupler has a device, a block's costs are computed there and solved there if they fit into what
    the device has free, and on the host if not.

    Args:
        coupler: a Loom; its ids, prices and duals are changed.
        data: (num_items, *shape) floating point, NumPy or torch; or a function from items (B,) to those
            (B, *shape), for what should not be held at once.
        labels: (num_items,) integers of 0 or more, needed with a label_weight.
        memory: bytes a block may take; by default 70 % of what the machine, or the process's control group,
            has free.
        min_gain: share of the gain so far under which a sweep is the last; 0 for ``max_sweeps`` in any case.
        max_sweeps: at most so many sweeps over the blocks, 1 or more.
        folder: where to keep unfinished work, for a process that is killed to lose seconds of it: costs by
            the rows, results by the block. A call with the same arguments goes on from it, and ends with the
            very result of one that was not interrupted. The caller removes it.
        progress: called as ``progress(done, total, note)``, counted in rows of this sweep.

    Returns:
        GlobalCoupling.

    Raises:
        ValueError: for data of another shape or that are not finite, bad labels, too little memory for
            blocks of 64 items or more than there is, other options out of range, or a folder with the
            unfinished work of another coupling. The coupler is then what it was before the block that failed.
    """
    device, coupler = coupler.device, coupler.to(None)
    try:
        return _solve_globally(
            _PairCosts(coupler, data, labels, device), memory, min_gain, max_sweeps, folder, progress
        )
    finally:
        coupler.to(device)


def _solve_globally(problem, memory, min_gain, max_sweeps, folder, progress):
    """`solve_globally` of a coupler on the host."""
    coupler = problem.coupler
    memory = default_memory() if memory is None else _check_memory(memory)
    max_sweeps, min_gain = integer(max_sweeps, "max_sweeps", 1), finite(min_gain, "min_gain")
    num_blocks = blocks_for(coupler.num_items, coupler.num_caches, memory)
    work = _GlobalSolve(problem, num_blocks, folder, progress)
    work.begin()
    most = 1 if num_blocks == 1 else max_sweeps
    while not work.finished:
        work.sweep()
        result = work.result
        gained = result.cost_before - result.cost_after
        work.finish(result.sweeps >= most or work.sweep_gain <= min_gain * gained)
    return work.result


def default_memory():
    """Return 70 % of the bytes of memory that this process can still get."""
    return int(0.7 * free_memory())


def _check_memory(memory):
    """Return a number of bytes as int; raises ValueError where this process can never have so many."""
    if isinstance(memory, float) and memory.is_integer():
        memory = int(memory)
    memory, most = integer(memory, "memory", 1), most_memory()
    if memory > most:
        raise ValueError(
            f"memory must be at most the {most:,} bytes there are for this process, got {memory:,}"
        )
    return memory


def block_bytes(num_items, num_caches):
    """Return the bytes a block of items takes: its costs, and what the solver needs.

    The costs are float32, in rows that an item's caches share; the solver needs 1 kB a noise.
    """
    return 4 * num_items**2 * num_caches + 1024 * num_items * num_caches


def blocks_for(num_items, num_caches, memory):
    """Return the smallest number of blocks that fit into ``memory`` bytes each.

    They are equal in size but for one item. Raises ValueError where blocks of `LEAST_BLOCK` items do not fit.
    """
    # block_bytes(B) = memory, solved for B
    own = 256 * num_caches
    largest = (math.isqrt(own**2 + num_caches * int(memory)) - own) // (2 * num_caches)
    if largest < min(num_items, LEAST_BLOCK):
        raise ValueError(
            f"memory must hold a block of {min(num_items, LEAST_BLOCK)} items, "
            f"{block_bytes(min(num_items, LEAST_BLOCK), num_caches):,} bytes, got {memory:,}"
        )
    return -(-num_items // largest)


class _PairCosts:
    """What pairs of a coupler's items and noises cost, for items that are held or made as they are needed."""

    def __init__(self, coupler, data, labels, device=None):
        self.coupler, self.device = coupler, device
        if callable(data):
            self.take = lambda items: np.asarray(to_numpy(data(items)), np.float32)
        else:
            data = to_numpy(data)
            if data.shape != (coupler.num_items, *coupler.shape) or name_of_dtype(data.dtype) not in FLOATS:
                raise ValueError(
                    f"data must be floating point of shape {(coupler.num_items, *coupler.shape)}, "
                    f"got {data.dtype} of shape {data.shape}"
                )
            self.take = lambda items: np.asarray(data[items], np.float32)
        every = np.arange(coupler.num_items)
        self.labels = coupler.checked_labels(labels, every)

    def rows_a_chunk(self, num_noises):
        operations = 2 * num_noises * max(1, count(self.coupler.shape))
        return max(1, int(OPERATIONS_A_CHUNK / operations))

    def costs(self, items, ids, rows, out):
        """Write rows of a block's matrix, items (B,) against noises (B·K,), into ``out`` (float32).

        ``out`` is an array of the host, or a tensor on the device that then computes them.
        """
        coupler, labels = self.coupler, None
        x = self.take(items[rows])
        self._check(x, items[rows])
        if self.labels is not None:
            labels = tuple(like(part, out) for part in (self.labels[items[rows]], self._noise_labels(ids)))
        pairwise_cost_from_ids(
            like(x, out),
            like(ids, out),
            seed=coupler.seed,
            domain=NoiseDomain.CACHE,
            metric=coupler.metric,
            labels=labels,
            label_weight=coupler.label_weight,
            assignment_only=True,
            out=out,
        )

    def pair_costs(self, items, ids):
        """Return item p's cost with noise p without the label term, (P,) float64, in little memory."""
        coupler, costs = self.coupler, np.empty(len(ids))
        step = max(1, PAIRS_A_CHUNK // max(1, count(coupler.shape)))
        for first in range(0, len(ids), step):
            part = slice(first, first + step)
            z = noise_from_ids(ids[part], coupler.shape, seed=coupler.seed, domain=NoiseDomain.CACHE)
            costs[part] = paired_cost(self.take(items[part]), z, metric=coupler.metric)
        return costs

    def labels_differ(self, items, ids):
        """Return 1.0 where item p's label is not noise p's, else 0.0: (P,) float64.

        A pair whose labels differ costs ``label_weight`` more.
        """
        if self.labels is None:
            return np.zeros(len(ids))
        return (self.labels[items] != self._noise_labels(ids)).astype(np.float64)

    def _noise_labels(self, ids):
        return self.labels[ids // self.coupler.num_caches]

    def _check(self, x, items):
        if x.shape[1:] != self.coupler.shape or len(x) != len(items):
            expected = (len(items), *self.coupler.shape)
            raise ValueError(f"data must give items of shape {expected}, got {x.shape}")
        bad = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))
        if bad.size:
            raise ValueError(f"data[{items[bad[0]]}] contains NaN or infinity; couplings need finite data")


class _GlobalSolve:
    """A global solve under way, and what is done of it, in memory and in its folder."""

    def __init__(self, problem, num_blocks, folder, progress):
        self.problem, self.coupler, self.num_blocks = problem, problem.coupler, num_blocks
        self.folder = None if folder is None else Path(folder)
        self.progress = progress or (lambda done, total, note: None)
        self.block, self.sweep_gain, self.finished = 0, 0.0, False
        self.watch = Stopwatch()
        self.result = None

    def begin(self):
        """Go on from the folder, or measure the costs of the coupling where everything begins."""
        if self.folder is not None and (self.folder / "state.safetensors").exists():
            self._load()
            return
        coupler = self.coupler
        items = np.repeat(np.arange(coupler.num_items), coupler.num_caches)
        first = np.arange(coupler.ids.size)
        held = coupler.ids.reshape(-1).astype(np.int64)
        independent = float(self.problem.pair_costs(items, first).mean())
        if not math.isfinite(independent):
            raise ValueError("data contain NaN or infinity; couplings need finite data")
        before = independent
        if not np.array_equal(held, first):
            differs = self.problem.labels_differ(items, held)
            before = float((self.problem.pair_costs(items, held) + coupler.label_weight * differs).mean())
        self.result = GlobalCoupling(independent, before, before, math.nan, self.num_blocks)

    def sweep(self):
        """Solve the blocks of this sweep that are not solved yet."""
        coupler, result = self.coupler, self.result
        order = np.arange(coupler.num_items)
        if self.num_blocks > 1:
            bits = step_bits(order, 2, seed=coupler.seed, step=result.sweeps, domain=StepDomain.BLOCKS)
            order = np.lexsort((bits[:, 1], bits[:, 0]))
        blocks = np.array_split(order, self.num_blocks)
        total = 2 * coupler.num_items
        while self.block < len(blocks):
            done = 2 * sum(len(b) for b in blocks[: self.block])
            items = np.sort(blocks[self.block])
            self._solve_block(items, lambda rows, note, done=done: self.progress(done + rows, total, note))
            self.block += 1
            if self.block < len(blocks):
                self._save()
        result.sweeps += 1
        self.progress(total, total, f"cost per pair {result.cost_after:.6g}")

    def finish(self, finished):
        """End a sweep, which is the last if ``finished``, and save what is done."""
        self.finished, self.block, self.sweep_gain = finished, 0, 0.0
        self.result.seconds = dict(self.watch.seconds)
        self._save()

    def _solve_block(self, items, progress):
        coupler, result, watch = self.coupler, self.result, self.watch
        caches = coupler.num_caches
        ids = coupler.ids[items].reshape(-1).astype(np.int64)
        costs = self._room_for(len(items), len(ids))
        with self._row_store(items, ids, costs) as store:
            with watch("cost"):
                self._fill(costs, items, ids, store, progress)
            progress(len(items), f"solving {len(items)} x {len(ids)}")
            with watch("solve"):
                fresh = not coupler.prices[ids].any()
                start = (np.arange(len(ids)), coupler.prices[ids])
                start = None if fresh else tuple(like(part, costs) for part in start)
                found = solve(costs, row_repeats=caches, start=start, tolerance=coupler.tolerance).check()
                arrays = {name: to_numpy(getattr(found, name)) for name in ("col4row", "u", "v")}
                found = replace(found, **arrays)
        del costs
        with watch("write"):
            owners = np.repeat(items, caches)
            order = keep_own(found.col4row, caches)
            before = self.problem.pair_costs(owners, ids)
            after = self.problem.pair_costs(owners, ids[order])
            rounding = (count(coupler.shape) + len(ids)) * np.finfo(np.float64).eps
            weight, differs = coupler.label_weight, self.problem.labels_differ
            change = differs(owners, ids[order]) - differs(owners, ids)
            order = improving_cycles(order, before, after, rounding, weight=weight, change=change)
            moved = order != np.arange(len(ids))
            gain = (before - after)[moved].sum() - weight * change[moved].sum()
            gain = float(gain) / coupler.ids.size
            self._write_back(items, ids, ids[order].reshape(-1, caches), found)
        result.cost_after -= gain
        self.sweep_gain += gain
        result.swaps += int(moved.sum())
        result.gap = float(found.gap) / len(ids) if self.num_blocks == 1 else math.nan
        progress(2 * len(items), f"cost per pair {result.cost_after:.6g}")

    def _room_for(self, rows, columns):
        """Return a float32 matrix (rows, columns), on the problem's device if it can be solved there."""
        device, repeated = self.problem.device, rows * self.coupler.num_caches
        if device is not None and max(repeated, columns) <= MOST_ON_DEVICE:
            import torch

            needed = block_bytes(rows, self.coupler.num_caches)
            if device.type != "cuda" or needed <= 0.9 * torch.cuda.mem_get_info(device)[0]:
                return torch.empty((rows, columns), dtype=torch.float32, device=device)
        return np.empty((rows, columns), np.float32)

    def _write_back(self, items, ids, new_ids, found):
        """Write ids and prices into the coupler, and the items' prices on the scale of the noises'."""
        coupler = self.coupler
        coupler.ids[items] = new_ids
        shift = coupler.prices[ids].mean() - found.v.mean()
        coupler.prices[ids] = found.v + shift
        if coupler.duals is None:
            coupler.duals = np.zeros(coupler.num_items)
        coupler.duals[items] = found.u.reshape(len(items), -1).mean(axis=1) - shift
        if self.problem.labels is not None:
            coupler.labels[items] = self.problem.labels[items]

    @contextmanager
    def _row_store(self, items, ids, costs):
        """Yield the RowStore that keeps a block's costs meanwhile; None where that is not worth it."""
        on_device = is_tensor(costs)  # where they take less time to compute than to write
        if self.folder is None or on_device or len(items) <= self.problem.rows_a_chunk(len(ids)):
            yield None
            return
        store = RowStore(self.folder, costs, self._block_key(items, ids))
        try:
            yield store
        finally:
            store.close()

    def _fill(self, costs, items, ids, store, progress):
        """Fill a block's matrix, but for the rows that an earlier process had done."""
        step = self.problem.rows_a_chunk(len(ids))
        begun = time.monotonic()
        first = 0 if store is None else store.restore() // step * step  # the same chunks, the same bits
        progress(first, f"costs of {len(items)} x {len(ids)}")
        while first < len(items):
            last = min(first + step, len(items))
            self.problem.costs(items, ids, slice(first, last), costs[first:last])
            first = last
            if store is not None and time.monotonic() - begun > KEEP_AFTER:
                store.finished(first)
            progress(first, f"costs of {len(items)} x {len(ids)}")

    def _block_key(self, items, ids):
        digest = hashlib.sha256(json.dumps(self._metadata(), sort_keys=True).encode())
        digest.update(items.tobytes())
        digest.update(ids.tobytes())
        return digest.hexdigest()

    def _metadata(self):
        return {**self.coupler.metadata(), "num_blocks": self.num_blocks}

    def _save(self):
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.result.seconds = dict(self.watch.seconds)
        state = self.coupler.state_dict()
        work = {"block": self.block, "sweep_gain": self.sweep_gain, "finished": self.finished}
        metadata = {"coupling": state.pop("metadata"), "result": asdict(self.result), "work": work}
        metadata["num_blocks"] = self.num_blocks
        write_tensors(
            self.folder / "state.safetensors", state, {name: json.dumps(v) for name, v in metadata.items()}
        )

    def _load(self):
        path = self.folder / "state.safetensors"
        tensors, metadata = read_tensors(path)
        with readable(path, "is no unfinished work; remove its folder to begin again"):
            metadata = {name: json.loads(value) for name, value in metadata.items()}
            result, work = GlobalCoupling(**metadata["result"]), metadata["work"]
            coupling, num_blocks = metadata["coupling"], metadata["num_blocks"]
            _check_work(asdict(result), **work)
        try:
            if num_blocks != self.num_blocks:
                raise ValueError(f"its num_blocks is {num_blocks}, here {self.num_blocks}")
            self.coupler.load_state_dict({**tensors, "metadata": coupling})
        except ValueError as error:
            raise ValueError(
                f"{self.folder} holds the unfinished work of another coupling: {error}; remove it or choose "
                "another"
            ) from None
        self.result = result
        self.watch.seconds = dict(self.result.seconds)
        self.block, self.sweep_gain, self.finished = work["block"], work["sweep_gain"], work["finished"]


def _check_work(result, block, sweep_gain, finished):
    """Raise ValueError unless these are of the types that `_GlobalSolve` keeps."""
    numbers = (*(result.pop("seconds") or {}).values(), *result.values(), block, sweep_gain)
    if not all(type(value) in (int, float) for value in numbers):
        raise ValueError("what it says of the work are no numbers")
    if type(block) is not int or not 0 <= block <= result["num_blocks"] or type(finished) is not bool:
        raise ValueError(f"its block {block!r} is none of {result['num_blocks']}")


def keep_own(col4row, num_caches):
    """A matching of caches to noises that leaves a noise in its cache where its item keeps it.

    Args:
        col4row: (n,) int64, a permutation: cache r, of item r // num_caches, gets the noise cache
            ``col4row[r]`` held.

    Returns:
        (n,) int64: one that gives every item the same noises.
    """
    place = np.arange(len(col4row))
    item4col = np.empty_like(place)
    item4col[col4row] = place // num_caches
    stays = item4col == place // num_caches
    moving = np.flatnonzero(~stays)
    order = place.copy()
    order[moving] = moving[np.argsort(item4col[moving], kind="stable")]
    return order
