"""The modules that plug-ins of the EOEPCA configurator import, implemented with this project.

With `configurator_compat` this package is registered as `configurator`; see `importing.provide_configurator`.
"""
