"""The modules that plug-ins of the EOEPCA configurator import, implemented with this project.

These modules are found as `configurator` by plug-ins only, and only with `configurator_compat`.
"""
