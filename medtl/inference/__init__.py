"""A trained stage at work: sliding window, segmenter, classifier, ensembles, ``medtl predict``.

:mod:`~medtl.inference.segmentation` and :mod:`~medtl.inference.classification` stand side by side;
:mod:`~medtl.inference.task_types` says which of them a task takes, and
:mod:`~medtl.inference.load` reads a stage of a run.
"""
