"""What surrounds the code: workflows call targets that exist, and the version is one everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

import loomfast

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_workflows_call_targets_of_the_makefile(path):
    called = re.findall(r"run: make ([\w-]+)", path.read_text())
    makefile = (ROOT / "Makefile").read_text()
    assert called
    for target in called:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_version_is_one():
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    built = re.search(
        r"^project\(loomfast VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE
    )[1]
    assert {cited, built, loomfast.__version__} == {PROJECT["version"]}


def test_the_least_python_is_tested_and_built_for():
    least = PROJECT["requires-python"].removeprefix(">=")
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    wheels = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]["build"].split()
    assert f'python: "{least}"' in workflow
    assert wheels[0] == f"cp{least.replace('.', '')}-*"
