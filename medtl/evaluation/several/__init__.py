"""Several runs of one arm: which are alike, and their scores together."""
