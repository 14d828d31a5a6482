"""Tests of profile_spawner."""

import sys
from pathlib import Path

# Before anything imports JupyterHub, in every process of the tests: see the module in this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent / "without_grammar"))
