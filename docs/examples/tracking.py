"""Multi-object tracking with gates: who is who from frame to frame, on a scene that is drawn here.

    python docs/examples/tracking.py [--out docs/examples] [--small]

Objects move through a square. A detector sees most of them, a little off, and now and then something that
is not there. Each frame is one assignment of tracks to detections with ``cost_limit``: pairs beyond the gate
are never matched, and tracks and detections may stay alone, which ends tracks and begins new ones.
"""

import argparse
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import loomfast

NOISE, SEEN, CLUTTER = 0.006, 0.93, 2.0  # of a detection; chance to be seen; false ones in a frame
GATE = 0.05  # a detection farther than this from where a track is expected is not its own
PATIENCE, CONFIRMED = 3, 4  # frames a track may stay unseen; detections that make it one


@dataclass
class Track:
    """A thing that is followed: where and how fast it is, and what it was seen as."""

    place: np.ndarray
    velocity: np.ndarray
    missed: int = 0
    path: list = field(default_factory=list)  # (frame, place, the object that it was, -1 for none)

    def see(self, frame, place, truth, gain=0.6, drift=0.3):
        """Correct the track by a detection: an alpha-beta filter."""
        error = place - self.place
        self.place, self.velocity = self.place + gain * error, self.velocity + drift * error
        self.missed = 0
        self.path.append((frame, self.place.copy(), truth))


def scene(frames, objects, rng):
    """Where the objects are, (frames, objects, 2), and the detections of each frame with whose they are."""
    begin, end = rng.random((2, objects, 2))
    bend = rng.normal(0, 0.15, (objects, 2))
    t = np.linspace(0, 1, frames)[:, None, None]
    truth = (1 - t) * begin + t * end + np.sin(np.pi * t) * bend
    detections = []
    for places in truth:
        seen = np.flatnonzero(rng.random(objects) < SEEN)
        false = rng.random((rng.poisson(CLUTTER), 2))
        where = np.concatenate([places[seen] + rng.normal(0, NOISE, (len(seen), 2)), false])
        detections.append((where, np.concatenate([seen, np.full(len(false), -1)])))
    return truth, detections


def track(detections):
    """Follow the detections; return all tracks that were seen often enough."""
    alive, ended = [], []
    for frame, (places, whose) in enumerate(detections):
        for one in alive:
            one.place = one.place + one.velocity
        expected = np.array([one.place for one in alive]).reshape(-1, 2)
        cost = np.square(expected[:, None] - places).sum(-1)
        rows, columns = loomfast.solve(cost, cost_limit=GATE**2).pairs()
        for i, j in zip(rows, columns, strict=True):
            alive[i].see(frame, places[j], whose[j])
        for i in np.setdiff1d(np.arange(len(alive)), rows):
            alive[i].missed += 1
        ended += [one for one in alive if one.missed > PATIENCE]
        alive = [one for one in alive if one.missed <= PATIENCE]
        for j in np.setdiff1d(np.arange(len(places)), columns):
            alive.append(Track(places[j], np.zeros(2), path=[(frame, places[j], whose[j])]))
    return [one for one in ended + alive if len(one.path) >= CONFIRMED]


def switches(tracks):
    """How often a track goes from one object to another, and the share of its detections that are real."""
    whose = [[truth for _, _, truth in one.path] for one in tracks]
    real = [[truth for truth in one if truth >= 0] for one in whose]
    changes = sum(a != b for one in real for a, b in pairwise(one))
    return changes, sum(map(len, real)) / sum(map(len, whose))


def draw(truth, detections, tracks, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4), sharex=True, sharey=True)
    points = np.concatenate([places for places, _ in detections])
    left.scatter(*points.T, s=2, color="#4a5568", lw=0)
    left.set_title(f"{len(points)} detections in {len(detections)} frames", fontsize=10)
    for k in range(truth.shape[1]):
        right.plot(*truth[:, k].T, color="#cbd5e0", lw=4, solid_capstyle="round")
    for k, one in enumerate(tracks):
        right.plot(*np.array([place for _, place, _ in one.path]).T, lw=1.2, color=plt.cm.tab20(k % 20))
    right.set_title(f"{len(tracks)} tracks of {truth.shape[1]} objects (grey)", fontsize=10)
    for axis in (left, right):
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_aspect("equal")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--small", action="store_true", help="a few objects, for a test")
    arguments = parser.parse_args()
    frames, objects = (30, 6) if arguments.small else (100, 25)
    truth, detections = scene(frames, objects, np.random.default_rng(3))
    tracks = track(detections)
    changes, real = switches(tracks)
    print(f"{len(tracks)} tracks of {objects} objects, {changes} switches, {real:.1%} of detections real")
    draw(truth, detections, tracks, arguments.out / "tracking.png")


if __name__ == "__main__":
    main()
