"""The sources of profiles: modules, documents, ConfigMaps, entry points and built-in profiles."""
