"""Transfer between sets of MR contrasts, as a medtl plugin."""
