"""Good inputs, damage to them, and a server that runs medtl on the result; see ``fuzz.py``."""
