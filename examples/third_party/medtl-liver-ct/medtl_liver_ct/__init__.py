"""Liver and its tumours in CT, as a medtl plugin."""
