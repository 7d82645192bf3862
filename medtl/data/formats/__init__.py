"""Layouts of data sets: nnU-Net raw, MSD, BIDS, MONAI datalists, tables and class folders.

Each module reads one layout into a :class:`~medtl.data.formats.case_list.Listing`; no image is
opened. :mod:`~medtl.data.formats.detect` finds out which layout a folder has.
"""
