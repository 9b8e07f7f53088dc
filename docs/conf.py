"""How Sphinx builds these pages: everything is local; a warning is an error (`make docs`)."""

import sys
from pathlib import Path

import fedmeta

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "fedmeta"
author = "The fedmeta authors"
project_copyright = "The fedmeta authors"
version = release = fedmeta.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "from_code",
    "from_ledger",
    "from_node",
]
# A report is a part of the page on its study.
exclude_patterns = ["_ext", "results/*/report.md"]
nitpicky = False

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["fedmeta.css"]
html_title = f"fedmeta {version}"
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"
