"""Fixtures for all tests."""

pytest_plugins = ["tests.control_plane"]
