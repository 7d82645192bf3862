"""What files can hold."""

#: Deflate makes at most about a thousandth of a file.
MOST_DEFLATED = 1040
