"""Sphinx configuration. Everything is built offline: no intersphinx, formulas by a local MathJax."""

import os
import sys
from pathlib import Path

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before SciPy is imported: scikit-learn's dispatch needs it
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # document this tree, installed or not

import linalg_ml

project = "linalg_ml"
author = copyright = "the linalg_ml developers"
version = release = linalg_ml.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",  # for Markdown that scripts print, and for the change log
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build", "auto_examples/**/*.ipynb", "auto_examples/**/*.py"]
templates_path = ["_templates"]
default_role = "autolink"  # `SRHT` in a docstring is a link, `m` is an argument
suppress_warnings = ["myst.header"]  # the benchmark scripts print sections, not pages
add_module_names = False
toc_object_entries_show_parents = "hide"

# --- API reference: what `__all__` names ---------------------------------------------------------------

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
# a page for `FastRP` and one for `fastrp`, also where file names do not tell capitals
autosummary_filename_map = {"linalg_ml.embedding.FastRP": "linalg_ml.embedding.FastRP_estimator"}
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # numpydoc says more
numpydoc_show_class_members = False  # the class template lists them

# --- examples -------------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "FileNameSortKey",
    "filename_pattern": r"/plot_",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("linalg_ml",),
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,  # their page loads scripts from elsewhere
    "show_signature": False,
    "image_srcset": ["2x"],
    "abort_on_example_error": True,
}

# --- pages ----------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "linalg_ml"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "linalg_ml"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"install": [], "gpu": [], "changelog": []}
