"""Params: named, typed values, and how they are computed from several layers."""
