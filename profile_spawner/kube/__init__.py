"""The only room that talks to Kubernetes: idempotent create and adopt, policy, sweep, permissions."""

from .cluster import Cluster
from .failures import KubeFailure, classify
from .identity import ServerIdentity
from .policy import Policy, PolicyViolation

__all__ = ["Cluster", "KubeFailure", "Policy", "PolicyViolation", "ServerIdentity", "classify"]
