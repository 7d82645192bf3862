"""Image files to arrays with an affine in mm, and back; grids and resampling.

:mod:`~medtl.data.io.images` reads any format and is what other packages import.
"""
