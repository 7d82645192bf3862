"""Unsupervised domain adaptation, as a medtl plugin."""
