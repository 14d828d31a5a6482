"""What modules written for the EOEPCA configurator import, on top of this project.

These modules are found as `configurator` by plug-ins only, and only with `configurator_compat`.
"""
