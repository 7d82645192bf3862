"""Scores with intervals, differences from the controls, and the tables and figures of a run.

:mod:`~medtl.evaluation.evaluate` is ``medtl evaluate``; :mod:`~medtl.evaluation.segmentation` and
:mod:`~medtl.evaluation.classification` offer the same functions for the two types of task. A missed
structure counts as a failure, and patients, not images, are resampled.
"""
