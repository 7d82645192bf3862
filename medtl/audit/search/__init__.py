"""Pairs of images that are alike, in any orientation."""
