"""Distances between two sets of features. Components, loaded by name through the catalog."""
