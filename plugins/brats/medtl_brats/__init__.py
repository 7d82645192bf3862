"""BraTS glioma segmentation as a medtl plugin."""
