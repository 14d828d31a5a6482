"""What profiles may ask for."""
