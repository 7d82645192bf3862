"""Sphinx settings: ``sphinx-build -W -n -b html docs docs/_build/html``, without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS / "_ext")]

import medtl  # noqa: E402

project = "medtl"
author = copyright = "The medtl authors"
version = release = medtl.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_ext", "sg_execution_times.rst", "**/sg_execution_times.rst"]
smartquotes = False  # would make a dash of "--option"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# Names outside of medtl stay plain text: their inventories would need a network. Inside of it,
# nothing but what is private to a module may be without a page.
nitpick_ignore_regex = [
    # Plan and folder of a study, and the rows of some tables, which are no part of the reference.
    (
        r"py:class",
        r"medtl\.study\.(arms|finished\.runs|folder|outcomes|plan|recipes|sites|trials)\..*",
    ),
    (
        r"py:.*",
        r"(collections|dataclasses|gzip|lightning_fabric|matplotlib|monai|nibabel|nn|np|numpy|pathlib"
        r"|pluggy|pydantic|pytest|rich|torch|typer|typing|types|importlib|os)\..*",
    ),
    # Type variables, and names for unions.
    (
        r"py:class",
        r"medtl\.(evaluation\.(intervals\.Key|comparison\.verdicts\.K)|config\.Config"
        r"|runtime\.parallel\.(Item|Result)"
        r"|data\.formats\.label_names\.Regions|inference\.temperature\.Temperature)|Where|Spacing|Stack",
    ),
    # Records of what a file holds: their modules are no part of the reference.
    (r"py:class", r"(medtl\.transforms\.image_record\.)?ImageRecord|SplitFold"),
    (r"py:class", r"(medtl\.transforms\.nnunet\.)?NnunetRecipe"),
    (r"py:.*", r"(Any|Callable|Console|Fabric|Iterable|Iterator|Mapping|Module|NDArray|Path)"),
    (r"py:.*", "Tensor"),
]

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["examples"],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "ignore_pattern": r"/(third_party|studies)/",
    "abort_on_example_error": True,
    "show_signature": False,
    "show_memory": False,
    "download_all_examples": False,
    "copyfile_regex": r"",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_theme_options = {
    "source_repository": "https://github.com/medtl/medtl/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_title = f"medtl {release}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["medtl.css"]


#: Docstrings of attributes, which napoleon would take for "type: words" where they hold a colon.
_attributes: dict[str, list[str]] = {}


def _keep(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        _attributes[name] = list(lines)


def _restore(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _attributes.pop(name, lines)


def _readable(*event: Any) -> tuple[str | None, str | None]:
    """Defaults that a dataclass makes anew have no source."""
    *_, signature, result = event
    return signature and signature.replace("<factory>", "..."), result


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", _readable)
    app.connect("autodoc-process-docstring", _keep, priority=100)
    app.connect("autodoc-process-docstring", _restore, priority=900)
    from figures import draw_figures
    from medtl_docs.writer import generated_pages, write_pages

    write_pages(DOCS, generated_pages())
    draw_figures(DOCS)
