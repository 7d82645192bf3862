"""Whole images into classes: samples, scores and predictions of tasks of that kind."""
