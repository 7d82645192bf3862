"""From a case to arrays: preparation, intensity standards and augmentation.

:mod:`~medtl.transforms.presets` names the presets, :mod:`~medtl.transforms.preprocessor` applies
one to a case, and :mod:`~medtl.transforms.augment` draws and applies the augmentation of a sample.
"""
