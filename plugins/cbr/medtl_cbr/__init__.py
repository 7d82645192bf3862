"""The small convolutional networks of Raghu et al. 2019 (Transfusion), in 2-D and 3-D."""
