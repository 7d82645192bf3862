"""The plugin contract, and what is installed.

:mod:`~medtl.plugins.hookspecs` is the whole contract, :mod:`~medtl.plugins.catalog` holds every
component that was found, :mod:`~medtl.plugins.builtin` offers medtl's own components in the same
way as any other plugin, and :mod:`~medtl.plugins.scaffold` writes new plugin packages. Listing
plugins imports neither torch nor NumPy.
"""
