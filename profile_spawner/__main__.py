"""`python -m profile_spawner` is `profile-spawner`."""

from .cli import main

main()
