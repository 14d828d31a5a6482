"""The only package that talks to Kubernetes: idempotent create and adopt, watch, sweep, permissions, capacity."""
