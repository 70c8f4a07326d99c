"""The documentation is true: its code runs, its links lead somewhere, the errors that it explains exist."""

import ast
import re
import runpy
import sys
from functools import cache
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot

from loomfast.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
# A block that names the test which runs it: its packages are not installed everywhere.
ELSEWHERE = re.compile(r"<!-- executed by (tests/\w+\.py) -->\n$")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PAGE_NAMED = re.compile(r"\bdocs/[\w/]+(?:\.md)?")


def code_of(path):
    """The Python of a page, all blocks in order, each at the line where the page has it."""
    text, code = path.read_text(encoding="utf-8"), []
    for block in BLOCK.finditer(text):
        elsewhere = ELSEWHERE.search(text[: block.start()])
        if elsewhere:
            assert (ROOT / elsewhere[1]).exists(), f"{path} says that {elsewhere[1]} runs a block"
            continue
        first = text[: block.start(1)].count("\n")
        code += ["\n"] * (first - len(code)) + block[1].splitlines(keepends=True)
    return "".join(code)


def name(path):
    return str(path.relative_to(ROOT))


def test_code_is_found_at_its_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```python\na = 1\n```\n\n```\nnot = code\n```\n\n```python\nb = a\n```\n")
    assert [(line, text) for line, text in enumerate(code_of(page).splitlines(), 1) if text] == [
        (4, "a = 1"),
        (12, "b = a"),
    ]


@pytest.mark.parametrize("page", [page for page in [ROOT / "README.md", *PAGES] if code_of(page)], ids=name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    exec(compile(code_of(page), str(page), "exec"), {"__name__": "page"})


def targets(text):
    """The relative links of a page, without what is in code, and without anchors."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return [link.split("#")[0] for link in LINK.findall(text) if not re.match(r"\w+:|#", link)]


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_links_lead_to_files(page):
    missing = [one for one in targets(page.read_text(encoding="utf-8")) if not (page.parent / one).exists()]
    assert not missing


def test_links_are_found():
    assert targets("[a](b.md#c) ![d](e.png) [f](https://g) [h](#i) `[j](k)`") == ["b.md", "e.png"]


def anchors(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_anchors_are_headings(page):
    for target, anchor in re.findall(r"\]\(([\w./]*)#([\w-]+)\)", page.read_text(encoding="utf-8")):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "index.md"], ids=name)
def test_every_page_is_in_the_contents(page):
    contents = re.findall(r"```\{toctree\}(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    entries = {line for part in contents for line in part.splitlines() if line and not line.startswith(":")}
    assert str(page.relative_to(DOCS).with_suffix("")) in entries


# ---- errors ------------------------------------------------------------------------------------------------


@cache
def messages():
    """The strings of the package and the engine, {} where something is put in; adjacent literals as one."""
    found = []
    for path in sorted((ROOT / "loomfast").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"\{\w*\}", "{}", node.value))
    for path in sorted((ROOT / "csrc").rglob("*.cpp")):
        text = path.read_text(encoding="utf-8")
        found += [re.sub(r'"\s*"', "", one) for one in re.findall(r'"[^\n]*"(?:\s*"[^\n]*")*', text)]
    return found


def is_raised(message):
    """Whether a message, … where something is put in, is in a string of the package."""
    pieces = [re.escape(piece.strip()) for piece in message.split("…") if piece.strip()]
    pattern = re.compile(r".*?".join(pieces), re.DOTALL)
    return any(pattern.search(one) for one in messages())


def explained():
    """The messages that the page on troubleshooting explains: its headings in code."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^### `(.*)`$", text, re.MULTILINE)


def test_an_error_that_nobody_raises_is_noticed():
    assert is_raised("index holds item … more than once; a batch takes each item at most once")
    assert not is_raised("index holds item … more than twice")


@pytest.mark.parametrize("message", explained())
def test_an_error_that_is_explained_exists(message):
    assert is_raised(message)


def pages_named(text):
    return [one for one in PAGE_NAMED.findall(text) if not one.startswith("docs/_build")]


def test_pages_that_messages_and_docstrings_name_exist():
    assert pages_named("see docs/none.md or docs/gpu") == ["docs/none.md", "docs/gpu"]
    named = {page for message in messages() for page in pages_named(message)}
    assert named, "no message names a page"
    assert not [page for page in named if not (ROOT / page).exists()]


# ---- examples ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_makes_its_picture(example, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(example), "--small", "--out", str(tmp_path)])
    matplotlib.use("Agg")
    runpy.run_path(str(example), run_name="__main__")
    pyplot.close("all")
    assert capsys.readouterr().out
    pictures = [path.name for path in tmp_path.iterdir()]
    assert pictures
    for picture in pictures:  # those that the page shows
        assert f"examples/{picture}" in (DOCS / "examples.md").read_text(encoding="utf-8")
        assert (DOCS / "examples" / picture).exists()


def test_the_pictures_of_how_it_works_are_made_by_its_code(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pictures.py", "--out", str(tmp_path)])
    matplotlib.use("Agg")
    with pyplot.rc_context():
        runpy.run_path(str(DOCS / "pictures.py"), run_name="__main__")
    pyplot.close("all")
    shown = re.findall(
        r"\]\((how_it_works_\w+\.png)\)", (DOCS / "how_it_works.md").read_text(encoding="utf-8")
    )
    assert sorted(shown) == sorted(path.name for path in tmp_path.iterdir())


# ---- commands ----------------------------------------------------------------------------------------------


@cache
def commands():
    """{command: flags that texts give it}, of every line that is a command, and of commands in sentences."""
    found = {}
    for page in TEXTS:
        for line in page.read_text(encoding="utf-8").splitlines():
            for before, command, rest in re.findall(r"(^|`|-m (?:-- )?)loomfast ([a-z]+)\b([^`#]*)", line):
                if before != "`" or command in COMMANDS:
                    found.setdefault(command, set()).update(re.findall(r"(--[a-z][\w.-]*)", rest))
    return found


def test_commands_take_the_flags_that_texts_give_them(capsys):
    assert {"train", "sample", "evaluate", "couple", "solve", "reflow", "distill"} <= set(commands())
    for command, flags in commands().items():
        assert main([command, *(["digits"] if command == "train" else []), "--help"]) == 0
        known = set(re.findall(r"(--[a-z][\w.-]*)", capsys.readouterr().out))
        assert flags <= known, f"loomfast {command} does not take {sorted(flags - known)}"
