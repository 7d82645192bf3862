"""Writes new plugin packages: small, complete, and passing their own tests at once."""
