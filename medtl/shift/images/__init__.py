"""The images of the two domains: which they are, read once, as features by patient."""
