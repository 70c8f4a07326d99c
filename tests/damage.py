"""Damaged files: mutations of a whole one, by a seed."""

import re

import numpy as np

HUGE = (b"0", b"-1", b"[1]", b"null", b"1e999", b"NaN", b"99999999999", b"4294967296", b"1" * 30)


def mutations(content, seed, count):
    """``count`` damaged versions: empty, cut, flipped, overwritten, shifted, with other numbers in text."""
    rng = np.random.default_rng(seed)
    kinds = [cut, flip, flip, overwrite, insert, leave_out, renumber, renumber]
    yield b""
    for _ in range(count - 1):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            damaged = kinds[rng.integers(len(kinds))](damaged, rng)
        yield bytes(damaged)


def place(content, rng):
    """A position: anywhere, or more often in the first part, where formats keep their headers."""
    return int(rng.integers(max(1, len(content) if rng.random() < 0.4 else min(len(content), 200))))


def cut(content, rng):
    return content[: place(content, rng)]


def flip(content, rng):
    for _ in range(rng.integers(1, 9)):
        if content:
            content[place(content, rng)] ^= 1 << rng.integers(8)
    return content


def overwrite(content, rng):
    first, length = place(content, rng), int(rng.integers(1, 20))
    value = (b"\0", b"\xff", rng.bytes(1))[rng.integers(3)]
    content[first : first + length] = value * len(content[first : first + length])
    return content


def insert(content, rng):
    first = place(content, rng)
    content[first:first] = rng.bytes(int(rng.integers(1, 20)))
    return content


def leave_out(content, rng):
    first = place(content, rng)
    del content[first : first + int(rng.integers(1, 20))]
    return content


def renumber(content, rng):
    """Another number, or what is none, in the place of one written in digits."""
    found = list(re.finditer(rb"\d+", bytes(content[:20_000])))
    if found:
        where = found[rng.integers(len(found))]
        content[where.start() : where.end()] = HUGE[rng.integers(len(HUGE))]
    return content
