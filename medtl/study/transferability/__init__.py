"""Scores of how well a network's features suit a task, before anything is trained."""
