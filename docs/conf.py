"""Sphinx configuration."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
# The tree that is documented is this one, whatever is installed.
sys.path[:0] = [str(HERE.parent), str(HERE)]

from api_pages import write_pages  # noqa: E402
from option_pages import write_hyperparameters  # noqa: E402

from clipmused_bids import __version__  # noqa: E402

write_pages(HERE / "api")
write_hyperparameters(HERE / "generated")

project = "clipmused-bids"
author = "The clipmused-bids developers"
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
html_theme = "furo"
html_title = "clipmused-bids"
html_static_path = ["_static"]
html_css_files = ["site.css"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "generated"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
# Types in docstrings are words (ndarray of shape (n_trials, C)), not names to be linked.
napoleon_use_param = False


def setup(app):
    # The page of options shows one command in groups: a usage line for each would be wrong.
    app.connect("sphinx-click-process-usage", lambda *given: given[-1].clear())
