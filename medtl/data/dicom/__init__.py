"""DICOM: files below a folder -> series -> stacks of slices -> volumes on a grid.

No name, number or date of a patient leaves this package.
"""
