"""The site: `make docs` builds it from this folder, without a network."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402
from docutils import nodes  # noqa: E402

import packseq  # noqa: E402

project = "packseq"
author = "packseq contributors"
copyright = f"2026, {author}"
version = release = packseq.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "groupwise"
autodoc_typehints = "none"
# Defaults as they are written, np.float32.
autodoc_preserve_defaults = True
# The template of classes lists what they have.
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = f"packseq {version}"
html_static_path = ["_static"]
html_css_files = ["packseq.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def escape_stars(app, what, name, obj, options, lines):
    """Shapes such as (N, *) are no emphasis."""
    lines[:] = [re.sub(r"\*(?=[),])", r"\\*", line) for line in lines]


def strip_code(app, doctree):
    """The blank line that ends an example for doctest is not shown."""
    for block in doctree.findall(nodes.literal_block):
        if block.rawsource == block.astext():
            block.rawsource = block.rawsource.rstrip("\n")
            block.children = [nodes.Text(block.rawsource)]


def setup(app):
    app.connect("builder-inited", lambda app: pages.draw_all())
    app.connect("doctree-read", strip_code)
    app.connect("autodoc-process-docstring", escape_stars, priority=100)  # before numpydoc
