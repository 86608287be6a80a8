"""Sphinx's configuration. The site needs nothing from the network: neither to build nor to show."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import distkit

project = "distkit"
author = "The distkit developers"
copyright = "the distkit developers"
version = release = distkit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs.extension"]
exclude_patterns = ["measured"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_url_schemes = ["http", "https"]

# Docstrings are in Google's style, and quote code in single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
add_module_names = False
nitpicky = False

html_theme = "furo"
html_title = f"distkit {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "monokai"
