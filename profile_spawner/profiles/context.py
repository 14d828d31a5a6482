"""The context of a server that is being prepared: user, server name, namespace and hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from profile_spawner.names import identity_hash, is_dns_label, is_hashed, object_name

from .access import UserInfo

__all__ = ["FACTS", "ServerContext"]

FACTS = ("username", "user_slug", "servername", "server_slug", "namespace", "hub", "profile", "pod_name")
"""The names that texts can use for facts of a server: `{{ username }}` and so on."""


@dataclass(frozen=True)
class ServerContext:
    """The user, the name and the location of a server.

    Attributes:
        user: Name, groups and admin flag.
        server_name: The name of a named server; empty for the default one.
        namespace: The Kubernetes namespace of the server.
        hub: The identity of the hub within the cluster.
        pod_name: The name of the server's pod.
        spawn_id: Different for each start of a server.
        user_namespaces: Whether the namespace belongs to this user alone.
    """

    user: UserInfo
    server_name: str = ""
    namespace: str = "default"
    hub: str = "default"
    pod_name: str = "jupyter"
    spawn_id: str = "0"
    user_namespaces: bool = False

    @classmethod
    def example(cls) -> ServerContext:
        """Return an example server. Profiles are tested with it before users can start them."""
        return cls(UserInfo("user"), namespace="default", pod_name="jupyter-user")

    @cached_property
    def user_slug(self) -> str:
        """The user's name as a DNS label of at most 40 characters: unchanged if it is one, otherwise with a hash.

        A name that looks like one with a hash gets one, too, or it could be the label of another user.
        """
        name = self.user.name
        valid = is_dns_label(name) and len(name) <= 40 and not is_hashed(name)
        return name if valid else object_name(name[:19], identity_hash(name))

    @cached_property
    def server_slug(self) -> str:
        """User and server name as one DNS label of at most 40 characters. Different pairs have different labels."""
        if not self.server_name:
            return self.user_slug
        readable = f"{self.user.name[:10]}-{self.server_name}"
        return object_name(readable[:19], identity_hash(self.user.name, self.server_name))

    @property
    def unique_names(self) -> frozenset[str]:
        """Names that only this user or this server has in its namespace; empty if the namespace is the user's."""
        return frozenset() if self.user_namespaces else frozenset((self.user_slug, self.server_slug, self.pod_name))

    def facts(self, profile: str) -> Mapping[str, str]:
        """Return the server's facts by the names in `FACTS`."""
        return MappingProxyType(
            {
                "username": self.user.name,
                "user_slug": self.user_slug,
                "servername": self.server_name,
                "server_slug": self.server_slug,
                "namespace": self.namespace,
                "hub": self.hub,
                "profile": profile,
                "pod_name": self.pod_name,
            }
        )

    def owned_hash(self, *parts: str) -> str:
        """Return a hash for the name of an object that belongs to this start of this server."""
        return identity_hash(self.hub, self.user.name, self.server_name, self.spawn_id, *parts)
