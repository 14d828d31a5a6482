"""`python -m profile_spawner` is `profile-spawner`."""

from profile_spawner.cli import main

main()
