"""The small convolutional networks of the Transfusion study (S3), in 2-D and 3-D."""
