"""Files -> array + affine (mm), and back."""
