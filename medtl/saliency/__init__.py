"""Where a network looks, as maps and as scores of these maps."""
