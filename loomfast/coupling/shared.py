"""One coupling for several processes: one of them computes it, all of them write it back.

Solving everywhere would rest on every BLAS to round alike.
"""

from contextlib import contextmanager
from dataclasses import replace


class SharedCoupler:
    """A coupling that one process computes and all processes write back; its methods are a `Coupling`'s."""

    def __init__(self, coupler, world):
        self._coupler, self._world = coupler, world

    def __getattr__(self, name):
        return getattr(self._coupler, name)

    def join(self):
        """Take up the first process's state, which the others may have read or rounded otherwise.

        Raises ValueError, or FailedElsewhere, if it belongs to other data than some process has.
        """
        state = self._world.first_sends(self._coupler.state_dict() if self._world.rank == 0 else None)
        with self._world.together():
            self._coupler.load_state_dict(state)

    def prepare(self, x, index, **options):
        """Prepare a batch as the coupling does, in the first process; the others receive what it found."""
        prepared = None
        if self._world.rank == 0:
            with self._telling_the_others():
                prepared = self._coupler.prepare(x, index, **options)
            noise = prepared.pair.noise
            self._world.first_sends(replace(prepared, pair=replace(prepared.pair, noise=None)))
        else:
            prepared = self._world.first_sends(None)
            noise = self._coupler.noise_of(prepared, x)  # the same bits in every process
        return replace(prepared, pair=replace(prepared.pair, noise=noise))

    def items(self, step, num, in_turn):
        """Return the items of a step as the coupling does; where it chooses them, the first process does."""
        if not self._coupler.chooses_items:
            return self._coupler.items(step, num, in_turn)
        chosen = None
        if self._world.rank == 0:
            with self._telling_the_others():
                chosen = self._coupler.items(step, num, in_turn)
        return self._world.first_sends(chosen)

    @contextmanager
    def _telling_the_others(self):
        """Within, an error of the first process is also sent to the others, who would wait for its result."""
        try:
            yield
        except Exception as error:
            self._world.first_sends(RuntimeError(str(error)))
            raise
