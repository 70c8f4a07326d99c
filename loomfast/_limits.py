"""How much memory this process may take: what the machine has, and its control groups allow."""

import os
from pathlib import Path

# (controller in /proc/self/cgroup, where its groups are, limit, use): version 2, then version 1
_VERSIONS = (
    ("", "sys/fs/cgroup", "memory.max", "memory.current"),
    ("memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_UNLIMITED = 1 << 60  # version 1 says a number of this size for no limit


def free_memory(root="/"):
    """Bytes that this process can still get: what the machine and every control group it is in have left.

    Files that are only cached count as left. root: where /proc and /sys are found.
    """
    groups = [limit - used for limit, used in _groups(Path(root))]
    available = _meminfo(Path(root), "MemAvailable")
    return max(0, min([_machine_memory() // 2 if available is None else available, *groups]))


def most_memory(root="/"):
    """Return the bytes that this process can have at most, alone on the machine; ``root`` as in
    `free_memory`.
    """
    total = _meminfo(Path(root), "MemTotal")
    limits = [limit for limit, _ in _groups(Path(root))]
    return min([_machine_memory() if total is None else total, *limits])


def _machine_memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _meminfo(root, name):
    text = _read(root / "proc/meminfo") or ""
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _groups(root):
    """Return (limit, bytes in use) of every control group that limits the memory of this process."""
    found = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller, mount, limit, used in _VERSIONS:
            if controller not in controllers.split(","):
                continue
            top = root / mount
            group = top / path.strip("/")
            # In a container the path may be the host's, and only the top be there: that is then the group.
            for folder in (group, *group.parents):
                numbers = _number(folder / limit), _number(folder / used)
                if None not in numbers and numbers[0] < _UNLIMITED:
                    found.append((numbers[0], numbers[1] - _cached(folder / "memory.stat")))
                if folder == top:
                    break
    return found


def _cached(path):
    """Return the bytes of files that a control group holds and that have not been read lately."""
    entries = dict(line.split(maxsplit=1) for line in (_read(path) or "").splitlines() if " " in line)
    return int(entries.get("total_inactive_file", entries.get("inactive_file", 0)))


def _number(path):
    text = (_read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def _read(path):
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
