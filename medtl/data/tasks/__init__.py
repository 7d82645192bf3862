"""The built-in tasks ``segmentation`` and ``classification``: any data, without a plugin.

Both read any layout of :mod:`medtl.data.formats` and choose their settings from the training cases.
They are loaded by name through the catalog, not imported.
"""
