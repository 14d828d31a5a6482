"""What all spawners of one hub share."""
