"""MR-physics phantom cohorts: the default data, and the ground truth of many tests.

Heads with tumours are drawn as tissue fractions (``anatomy``, ``tumour``), turned into FLAIR, T1,
T1ce and T2 by the MR signal equations (``physics``) and written (``cohort``) in the layout of BraTS
(``render``), as class folders of pictures (``kaggle``) or as TCGA slices with masks (``lgg``).
"""

from __future__ import annotations

from medtl.data.phantom.cohort import default_phantom, write_phantom

__all__ = ["default_phantom", "write_phantom"]
