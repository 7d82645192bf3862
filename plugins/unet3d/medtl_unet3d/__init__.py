"""Segmentation networks by name: S1's U-Nets and MONAI's, under medtl's block protocol."""
