"""Tests of profile_spawner."""
