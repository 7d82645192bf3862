"""Pages of the documentation that are made from the code itself, so that they cannot go stale."""
