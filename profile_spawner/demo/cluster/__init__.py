"""A Kubernetes for one machine: an API server in memory, and pods as local processes."""
