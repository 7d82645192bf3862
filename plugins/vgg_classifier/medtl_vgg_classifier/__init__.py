"""VGG networks that classify whole images, in 2-D and 3-D."""
