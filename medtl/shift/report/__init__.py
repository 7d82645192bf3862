"""What a measured shift means: tables, figures, attribution and advice."""
