"""What an audit found, as tables, files and figures."""
