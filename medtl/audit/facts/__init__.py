"""What is measured of the files, each read once; a fact follows from the content alone."""
