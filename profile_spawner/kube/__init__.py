"""The only package that calls the Kubernetes API: create and adopt objects, watch, sweep, permissions, capacity."""
