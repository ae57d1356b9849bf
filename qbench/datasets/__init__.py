"""Sources, pictures and text."""
