"""Converts profiles from other formats to this project's format, and back."""
