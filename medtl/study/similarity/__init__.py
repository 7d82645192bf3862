"""Similarity of the features that two networks compute from the same examples."""
