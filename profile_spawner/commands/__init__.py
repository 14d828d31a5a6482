"""The commands of `profile-spawner`, one module each."""
