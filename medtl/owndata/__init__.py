"""The task ``segmentation``: anybody's data in a common layout, without a plugin."""
