"""What a study's networks compute of its cases, and what is said of it."""
