"""Segmentation networks by name: two plain U-Nets and MONAI's networks, divided into blocks."""
