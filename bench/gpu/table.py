"""The findings of a check as text: what `gpu_check` prints last."""

LONGEST = 9_500
OURS = "loomfast cuda"


def table(files):
    """Lines of text, below ten thousand characters, from {file: {step: result}}."""
    steps = {name: result for file in files.values() for name, result in file.items()}
    lines = ["", "== what became of the steps"]
    for name, result in steps.items():
        lines.append(f"{name:15} {result['outcome']:40} {result.get('seconds', 0):6.1f} s")
    for name, describe in DESCRIBE.items():
        if name in steps:
            lines += ["", f"== {name}", *describe(steps[name]["findings"])]
    for name, result in steps.items():
        error = result["findings"].get("error") or (result.get("log") if result["outcome"] != "right" else "")
        if error:
            lines += ["", f"== why {name} is not right", *error.strip().splitlines()[-6:]]
    text = "\n".join(line[:200] for line in lines) + "\n"
    return text if len(text) < LONGEST else text[:LONGEST] + "\n(cut: the rest is in the JSON)\n"


def _machine(found):
    card = found.get("card") or {}
    packages = {k: v for k, v in (found.get("packages") or {}).items() if v}
    return [
        f"{card.get('name', 'no card')}, driver {card.get('driver_version', '-')}, {found.get('processor')}",
        f"{found.get('nvcc')}; " + ", ".join(f"{name} {number}" for name, number in packages.items()),
        f"kit {found.get('kit')}",
    ]


def _constants(found):
    return [f"{name:24} {value:g}" for name, value in found.items() if isinstance(value, (int, float))]


def _golden(found):
    lines = [f"{found.get('right', 0)} of {found.get('instances', 0)} repeated; "]
    parts = ("graph", "noise", "cost", "any_size", "coupling")
    lines[0] += ", ".join(f"{name} {found.get(name)}" for name in parts)
    return lines + [f"  {name}: {where}" for name, where in list((found.get("wrong") or {}).items())[:8]]


def _tests(found):
    return [str(found.get("counts")), *found.get("failures", [])[:5]]


def _sanitizers(found):
    return [
        f"{name:10} {'clean' if one.get('clean') else one}"
        for name, one in found.items()
        if isinstance(one, dict)
    ]


def _microseconds(seconds):
    return f"{seconds * 1e6:.1f}" if seconds < 1e-3 else f"{seconds * 1e6:.0f}"


def best_peer(row):
    """(name, seconds) of the fastest that is not this project, or None."""
    peers = {
        name: s
        for name, s in row["seconds"].items()
        if "loomfast" not in name and not name.endswith(", host")
    }
    return min(peers.items(), key=lambda item: item[1]) if peers else None


def best_cpu(row):
    own = [s for name, s in row["seconds"].items() if name.startswith("loomfast cpu")]
    return min(own) if own else None


def _assignment(found):
    lines = [f"{'':24}{'cuda us':>10}{'graph':>10}{'host':>8}{'cpu+copy':>11}  best peer (times ours)"]
    for row in found.get("rows", []):
        label = f"{row['family']} {row['batch']} x {row['n']} x {row['m']}"
        seconds = row["seconds"]
        if OURS not in seconds:
            lines.append(f"{label:24} {row['wrong']}")
            continue
        cells = [seconds[OURS], seconds.get(f"{OURS}, graph"), seconds.get(f"{OURS}, host"), best_cpu(row)]
        text = "".join(
            f"{'-' if cell is None else _microseconds(cell):>{width}}"
            for cell, width in zip(cells, (10, 10, 8, 11), strict=True)
        )
        peer = best_peer(row)
        text += f"  {peer[0]} {peer[1] / seconds[OURS]:.2f}" if peer else "  -"
        wrong = list(row["wrong"])
        lines.append(f"{label:24}{text}" + (f"  wrong: {', '.join(wrong)}" if wrong else ""))
    return lines


def _noise_and_cost(found):
    lines = []
    for row in found.get("rows", []):
        what = {k: v for k, v in row.items() if k not in ("seconds", "what")}
        label = f"{row['what']} " + " ".join(f"{v}" for v in what.values())
        lines.append(
            f"{label:32}" + ", ".join(f"{k} {_microseconds(v)}" for k, v in row["seconds"].items()) + " us"
        )
    return lines


def _coupling(found):
    lines = []
    for row in found.get("rows", []):
        cells = [
            f"{name} {_microseconds(seconds)} (launched in {_microseconds(row['launching'][name])})"
            for name, seconds in row["seconds"].items()
        ]
        lines.append(
            f"batch {row['batch']}: " + (", ".join(cells) + " us" if cells else f"{row['cost_after']}")
        )
    return lines


def _profile(found):
    lines = []
    for name, text in found.items():
        if isinstance(text, str):
            wanted = (
                "Throughput",
                "Duration",
                "No Eligible",
                "Registers",
                "Achieved Occupancy",
                "Warp Cycles",
            )
            lines.append(f"{name}:")
            lines += [f"  {line.strip()}" for line in text.splitlines() if any(w in line for w in wanted)][:9]
    return lines


def _training(found):
    lines = []
    for row in found.get("rows", []):
        text = ", ".join(f"{name} {ms:.1f} ms" for name, ms in row["ms"].items())
        sampling = f"; sampling {row['sampling_ms']:.0f} ms" if "sampling_ms" in row else ""
        lines.append(f"batch {row['batch']}: {text}{sampling}; ahead as in line: {row['ahead_equals_loom']}")
    return lines


DESCRIBE = {
    "versions": _machine,
    "micro": _constants,
    "golden": _golden,
    "tests": _tests,
    "sanitizers": _sanitizers,
    "assignment": _assignment,
    "noise_and_cost": _noise_and_cost,
    "coupling": _coupling,
    "profile": _profile,
    "training": _training,
}
