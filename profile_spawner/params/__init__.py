"""Params: named, typed values, and their resolution from several layers."""
