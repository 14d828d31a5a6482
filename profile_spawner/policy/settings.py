"""What the hub's configuration allows: to all profiles (`Policy`), and to documents (`DataPolicy`)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from profile_spawner.errors import PolicyError

__all__ = [
    "CHART_NAMES",
    "DEFAULT_KINDS",
    "OPT_IN_KINDS",
    "ROLE_RIGHTS",
    "DataPolicy",
    "Level",
    "Policy",
    "names_of_the_chart",
]

Level = Literal["privileged", "baseline", "restricted"]
LEVELS: tuple[Level, ...] = ("privileged", "baseline", "restricted")

DEFAULT_KINDS = frozenset({"ConfigMap", "Secret", "PersistentVolumeClaim", "Service"})
ROLE_RIGHTS = frozenset({"*", "pods/attach", "pods/ephemeralcontainers", "pods/exec", "pods/portforward", "pods/proxy"})
OPT_IN_KINDS = frozenset({"Role", "RoleBinding", "Deployment", "StatefulSet", "Job", "NetworkPolicy", "ServiceAccount"})

CHART_NAMES = frozenset(
    {
        "hub", "hub-db-dir", "image-pull-secret", "proxy-api", "proxy-http", "proxy-public",
        "proxy-public-manual-tls", "proxy-public-tls-acme", "singleuser",
    }
)  # fmt: skip
"""Names of the Secrets, ConfigMaps, claims and Services of Zero to JupyterHub, as its values name them by default."""

CHART_CONFIGURATION = Path("/usr/local/etc/jupyterhub/config")
"""Where the chart puts the names of its objects: in the hub's pod, one file for each."""

_CHART_KEYS = (
    "hub", "hub-existing-secret", "hub-existing-secret-or-default", "hub-pvc", "hub-serviceaccount",
    "image-pull-secret", "proxy-api", "proxy-http", "proxy-public", "proxy-public-manual-tls", "proxy-public-tls",
    "singleuser",
)  # fmt: skip
_SOURCES = ("documents", "config_maps")


def names_of_the_chart(begin: str = "") -> frozenset[str]:
    """Return the names of the chart's objects, which its `fullnameOverride` changes; empty outside of the hub's pod.

    Args:
        begin: How the chart's own, short names of the objects begin.
    """
    found = set()
    for key in _CHART_KEYS:
        with contextlib.suppress(OSError, UnicodeError):
            if key.startswith(begin):
                found.add((CHART_CONFIGURATION / key).read_text(encoding="utf-8").strip())
    return frozenset(found - {""})


@dataclass(frozen=True)
class Policy:
    """What the hub allows to all profiles.

    Attributes:
        kinds: The kinds of objects that profiles may create: `DEFAULT_KINDS` and any of `OPT_IN_KINDS`.
        pod_security: The Pod Security level of every pod: `privileged`, `baseline` or `restricted`.
        host_ports: Host ports that containers may use.
        service_accounts: The service accounts that pods may use, besides `default` and those that the profile
            creates. `None` disables this check for the server's pod (but not for pods of Deployments and similar).
        role_rights: What Roles may give that lets a server act as another pod, or on everything of a kind: some of
            `ROLE_RIGHTS`. Only for namespaces that belong to one user.
        user_namespaces: Whether every user has a namespace of their own.
        protected: Names of Secrets, ConfigMaps and service accounts that no pod may use, such as the hub's own.
        static_volumes: Whether claims may name a volume or copy another claim, which may contain another user's data.
        adopt_unlabelled_claims: Whether an existing claim without labels of this project may be mounted. Such a claim
            is never deleted.

    Raises:
        PolicyError: If the configuration contains an unknown kind or level.
    """

    kinds: frozenset[str] = DEFAULT_KINDS
    pod_security: Level = "baseline"
    host_ports: frozenset[int] = frozenset()
    service_accounts: frozenset[str] | None = None
    role_rights: frozenset[str] = frozenset()
    user_namespaces: bool = False
    protected: frozenset[str] = frozenset({"hub"})
    static_volumes: bool = False
    adopt_unlabelled_claims: bool = True

    def __post_init__(self) -> None:
        allowed = DEFAULT_KINDS | OPT_IN_KINDS
        for kind in sorted(self.kinds - allowed):
            message = "profiles can never be allowed to bring this kind"
            raise PolicyError(message, field="kinds", value=kind, expected=", ".join(sorted(allowed)))
        for right in sorted(self.role_rights - ROLE_RIGHTS):
            message = "Roles of profiles can never be allowed to give this"
            expected = ", ".join(sorted(ROLE_RIGHTS))
            raise PolicyError(message, field="user_namespace_rights", value=right, expected=expected)
        if self.role_rights and not self.user_namespaces:
            raise PolicyError(
                "servers of several users share a namespace, in which these rights reach all of them",
                field="user_namespace_rights",
                value=", ".join(sorted(self.role_rights)),
                hint="Set c.KubeSpawner.enable_user_namespaces = True and put {username} into "
                "user_namespace_template, or remove the setting",
            )
        if self.pod_security not in LEVELS:
            message = "there is no such Pod Security level"
            raise PolicyError(message, field="pod_security", value=self.pod_security, expected=", ".join(LEVELS))


@dataclass(frozen=True)
class DataPolicy:
    """What the hub's configuration allows documents to request.

    Attributes:
        service_accounts: Service accounts that documents may use.
        secrets: Secrets that documents may use. All other Secrets are refused.
        host_paths: Host paths that documents may mount, including the paths below them.
        privileged: Whether privileged settings are checked only against the hub's Pod Security level.
        kinds: Additional kinds of objects that documents may create. The hub's `Policy` is checked too.
        override_keys: Additional settings of KubeSpawner that documents may override.
        labels: Labels and annotations with a prefix that documents may set: names, or prefixes that end with `/`.
            Most names without a prefix are always allowed.
        claims: Claims that documents may mount, besides the user's home and the claims that the profile creates.
        protected: Names of Secrets, ConfigMaps, claims and Services of the hub, which documents may never use. Those of
            the chart are included: in the hub's pod, as the chart names them.
        unrestricted: Whether everything is allowed, as for Python modules.
    """

    service_accounts: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    host_paths: frozenset[str] = frozenset()
    privileged: bool = False
    kinds: frozenset[str] = frozenset({"ConfigMap", "PersistentVolumeClaim", "Service"})
    override_keys: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    protected: frozenset[str] = CHART_NAMES
    unrestricted: bool = False

    @property
    def restricting(self) -> DataPolicy | None:
        """The policy itself; `None` if everything is allowed."""
        return None if self.unrestricted else self

    @classmethod
    def of(cls, settings: Mapping[str, Any], kind: str) -> DataPolicy:
        """Create the policy for one kind of source. Fields below the name of the kind apply only to that kind.

        Raises:
            PolicyError: If a field does not exist (the message lists the valid fields) or a value has a wrong type.
        """
        common = cls._read({k: v for k, v in settings.items() if k not in _SOURCES})
        of_kind = {}
        for source in _SOURCES:
            given = settings.get(source) or {}
            if not isinstance(given, Mapping):
                raise PolicyError("data_policy takes a mapping here", field=source, expected="fields of data_policy")
            of_kind[source] = cls._read(given)
        values = {**common, **of_kind.get(kind, {})}
        return cls(**{**values, "protected": CHART_NAMES | names_of_the_chart() | values.get("protected", frozenset())})

    @classmethod
    def _read(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        defaults = {f.name: f.default for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in defaults:
                raise PolicyError("data_policy has no such field", field=name, expected=", ".join(sorted(defaults)))
            names = [value] if isinstance(value, str) else value
            if isinstance(defaults[name], bool):
                valid, expected, used = isinstance(value, bool), "True or False", value
            else:
                valid = isinstance(names, list | tuple | set | frozenset)
                valid = valid and all(isinstance(item, str) and item for item in names)
                expected, used = "a list of names", frozenset(names) if valid else None
            if not valid:
                raise PolicyError("data_policy has a wrong value", field=name, value=value, expected=expected)
            values[name] = used
        return values
