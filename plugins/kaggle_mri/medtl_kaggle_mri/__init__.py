"""Brain MR pictures in class folders, as on Kaggle."""
