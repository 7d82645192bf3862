"""How far two domains are apart: features, metrics, and tests that exchange whole patients."""
