"""``medtl train``: the plan, its preview, the training loop and resuming.

:mod:`~medtl.training.launch` is the way in, :mod:`~medtl.training.plan` decides everything before
the first step, :mod:`~medtl.training.run` carries the plan out, and
:mod:`~medtl.training.loop` is the one loop.
"""
