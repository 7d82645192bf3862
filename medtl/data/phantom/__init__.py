"""MR-physics phantom cohorts: the default data, and the ground truth of many tests.

Heads with tumours are drawn as tissue fractions (``anatomy``, ``tumour``), turned into FLAIR, T1,
T1ce and T2 by the MR signal equations (``physics``) and written (``cohort``) in the layout of BraTS
(``brats_layout``), as class folders of pictures (``kaggle_layout``) or as TCGA slices with masks
(``lgg_layout``).
"""

from __future__ import annotations

from medtl.data.phantom.cohort import (
    BRATS,
    INDEX,
    KAGGLE,
    LGG,
    default_phantom,
    notes_of,
    read_index,
    write_phantom,
)

__all__ = [
    "BRATS",
    "INDEX",
    "KAGGLE",
    "LGG",
    "default_phantom",
    "notes_of",
    "read_index",
    "write_phantom",
]
