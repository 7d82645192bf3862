"""The images of the two domains: selected, read once, and measured as rows by patient."""
