"""What a network looks at: ``medtl explain``.

:mod:`~medtl.explain.run` is the way in; :mod:`~medtl.explain.gradcam` computes the maps and
:mod:`~medtl.explain.localisation` scores them against the truth.
"""
