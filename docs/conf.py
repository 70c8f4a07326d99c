"""Sphinx: the pages of this folder and the docstrings of the package, as `make docs` builds them."""

import re
from pathlib import Path

import loomfast

project = "loomfast"
author = "the authors of loomfast"
copyright = "the authors of loomfast, Apache-2.0"
version = release = loomfast.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
root_doc = "index"

html_theme = "furo"
html_title = "loomfast"
html_static_path = ["_static"]
html_css_files = ["loomfast.css"]
html_show_sphinx = False
highlight_language = "none"  # of blocks that name no language: commands and formulas
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_heading_anchors = 3
default_role = "code"  # `name` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = True  # as scipy's, where its contract is kept
napoleon_use_rtype = False
napoleon_use_ivar = True

# Where the files of the repository are that are no pages, such as ../csrc: relative links to them are left to
# GitHub, which shows these pages, too; on the site their words alone are left.
OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+[^)]*\)")


def without_links_outside(app, docname, source):
    """Replace links of a page that lead out of this folder by their texts."""
    folder = (Path(app.srcdir) / docname).parent

    def text(match):
        target = match[0][match[0].index("](") + 2 : -1].split("#")[0]
        inside = (folder / target).resolve().is_relative_to(app.srcdir)
        return match[0] if inside else match[1]

    source[0] = OUTSIDE.sub(text, source[0])


# Docstrings are read in a terminal first: (B, *shape) and |x - z| stand there as they are.
LITERAL = re.compile(r"(``.+?``|`[^`]+`|(?<![\w*\\])\*\w[\w ]*\*(?![\w*]))")


ATTRIBUTES = {}  # docstrings of attributes by name, escaped


def escaped(app, what, name, obj, options, lines):
    """Escape what reStructuredText would take for markup, but for literals, `names` and *emphasis*."""
    for k, line in enumerate(lines):
        parts = LITERAL.split(line)
        parts[::2] = [part.replace("*", r"\*").replace("|", r"\|") for part in parts[::2]]
        lines[k] = "".join(parts)
    if what == "attribute":
        ATTRIBUTES[name] = list(lines)


def without_types(app, what, name, obj, options, lines):
    """Take back what napoleon did to attributes: it takes what stands before their first colon for a type."""
    if what == "attribute":
        lines[:] = ATTRIBUTES.pop(name)


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", escaped, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", without_types, priority=900)  # after it
    app.connect("source-read", without_links_outside)
