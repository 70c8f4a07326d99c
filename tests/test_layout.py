"""The map in CONTRIBUTING is true: rooms, the arrows between them, no circles, and where imports stand."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Packages that are optional, or take long to load. These alone, and our modules that load one, may
# be imported inside a function; and the engine, so that `loomfast doctor` can say that it is broken.
HEAVY = {
    *("torch", "torchdiffeq", "triton", "cupy", "ml_dtypes", "scipy", "sklearn", "diffusers", "safetensors"),
    *("matplotlib", "PIL", "rich", "tyro", "ot", "h5py", "wandb", "tensorboard"),
}


@cache
def sources():
    """{module: path} of every Python module of the package; ``kernels/`` is installed as loomfast.kernels."""
    found = {}
    for top, name in ((ROOT / "loomfast", "loomfast"), (ROOT / "kernels", "loomfast.kernels")):
        for path in top.rglob("*.py"):
            parts = path.relative_to(top).with_suffix("").parts
            found[".".join((name, *(part for part in parts if part != "__init__")))] = path
    return found


@cache
def imports(module):
    """[(what it imports, whether inside a function)] of a module, by absolute names."""
    found = []

    def visit(node, inside):
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module if sources()[module].name == "__init__.py" else module.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.append((deeper if deeper in sources() or alias.name == "_engine" else base, inside))
        within = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, within)

    visit(ast.parse(sources()[module].read_text(encoding="utf-8")), False)
    return found


def own(module):
    """What a module imports of the package, wherever the import stands."""
    return {name for name, _ in imports(module) if name in sources()}


def room(module):
    """The room of a module: the first word below ``loomfast``."""
    return [*module.split("."), "loomfast"][1]


@cache
def the_map():
    """{room: rooms it may import} of the table in CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("| room |") :].split("\n\n")[0].splitlines()[2:]
    found = {}
    for line in table:
        names, _, allowed = (cell.strip() for cell in line.strip("|").split("|"))
        above = set(found) if allowed == "all above" else set(re.findall(r"`([\w/]+)`", allowed))
        for name in re.findall(r"`([\w/]+)`", names):
            found[name] = above
    return found


def python_rooms():
    return {room(module) for module in sources()} - {"loomfast"}


def csrc_rooms():
    return {f"csrc/{path.name}" for path in (ROOT / "csrc").iterdir() if path.is_dir()}


def test_the_map_has_every_room_and_no_other():
    there = python_rooms() | csrc_rooms()
    assert not there - set(the_map()), f"the map in CONTRIBUTING.md lacks {sorted(there - set(the_map()))}"
    assert set(the_map()) == there


def test_the_map_itself_has_no_circle_and_names_rooms_only():
    for name, allowed in the_map().items():
        assert allowed <= set(the_map()), f"{name} may import what is no room: {allowed - set(the_map())}"
    assert circles({name: allowed - {name} for name, allowed in the_map().items()}) == []


@pytest.mark.parametrize("name", sorted(python_rooms()))
def test_a_room_imports_what_the_map_allows(name):
    for module in sources():
        if room(module) == name:
            for target in own(module):
                assert room(target) in {name, "loomfast", *the_map()[name]}, f"{module} imports {target}"


@pytest.mark.parametrize("name", sorted(csrc_rooms()))
def test_a_room_of_the_engine_includes_what_the_map_allows(name):
    for path in (ROOT / name).rglob("*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for other in re.findall(r'#include "(?:\.\./)*(\w+)/', text):
            target = f"csrc/{other}"
            if target in csrc_rooms():
                assert target in {name, *the_map()[name]}, f"{path} includes a file of {target}"


def test_no_modules_import_each_other_in_a_circle():
    found = circles({module: own(module) for module in sources()})
    assert found == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d", "a"}}) == [{"b", "c"}, {"d"}]
    assert circles({"a": {"b"}, "b": set(), "c": {"a", "b"}}) == []


def circles(arrows):
    """The sets of names that reach each other, or themselves, by arrows {name: names}."""
    reached = {name: set(targets) for name, targets in arrows.items()}
    for middle in arrows:
        for name in arrows:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    found = []
    for name in sorted(arrows):
        circle = {other for other in reached[name] if name in reached.get(other, ())}
        if circle and circle not in found:
            found.append(circle)
    return found


def heavy(name, seen=frozenset()):
    """Whether a package is heavy, or a module of ours that loads one, itself or by what it imports."""
    if name.split(".")[0] in HEAVY:
        return True
    if name not in sources() or name in seen:
        return False
    return any(heavy(target, seen | {name}) for target, inside in imports(name) if not inside)


@pytest.mark.parametrize("module", sorted(sources()))
def test_only_what_is_heavy_is_imported_inside_a_function(module):
    inside = {name for name, inside in imports(module) if inside} - {"loomfast._engine"}
    light = sorted(name for name in inside if not heavy(name))
    assert not light, f"{module} imports {light} inside a function: put it at the top"
