"""Finished runs, compared arm against arm."""
