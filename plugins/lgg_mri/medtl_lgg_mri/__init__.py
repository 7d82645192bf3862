"""TCGA slices of lower-grade gliomas with masks."""
