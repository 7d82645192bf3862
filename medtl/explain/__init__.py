"""Saliency maps of trained networks: ``medtl explain``.

:mod:`~medtl.explain.run` is the entry point, :mod:`~medtl.explain.gradcam` computes the maps, and
:mod:`~medtl.explain.localisation` scores them against true masks.
"""
