"""Params: typed, named values, and their resolution through layers."""
