"""Makes the exception for an error, suitable for the installed JupyterHub.

JupyterHub counts failed spawns and stops after `consecutive_failure_limit` of them. An error of a user or a profile, or
a full quota, must not be counted: see also `seams.uncounted`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tornado import web

from profile_spawner.errors import ClusterError, ProfileSpawnerError
from profile_spawner.profiles.snapshot import MISTAKE
from profile_spawner.texts import Text

from .seams import SpawnException

__all__ = ["from_error", "hub_failure", "refusal", "silent"]


class _RefusalError(SpawnException or web.HTTPError, ValueError):  # type: ignore[misc]
    """The error that JupyterHub reports. It is a `ValueError` for callers of KubeSpawner's `load_user_options`."""


def refusal(message: str, *, reason: str, status: int = 400, log_message: str = "") -> web.HTTPError:
    """Return the exception that tells the user `message` and does not count as a failure of the hub.

    Args:
        message: A sentence for the user. It says what to do next.
        reason: A short word for the hub's metrics.
        status: The HTTP status.
        log_message: The message for the log, if it is different.
    """
    if SpawnException is not None:
        more: dict[str, Any] = {"reason": reason, "status_code": status, "log_message": log_message}
        exception = _RefusalError(message, **more)
    else:
        exception = _RefusalError(status, message)
    # Otherwise JupyterHub's pages show the exception's class and its text for the log.
    exception.jupyterhub_message = message
    return exception


def silent(status: int, log_message: str) -> web.HTTPError:
    """Return an exception after which JupyterHub shows the form without a message of its own.

    Args:
        status: The HTTP status.
        log_message: What the administrator reads in the log.
    """
    error = web.HTTPError(status, "%s", log_message)
    error.jupyterhub_message = ""  # type: ignore[attr-defined]
    return error


def hub_failure(status: int, message: str) -> web.HTTPError:
    """Return the exception that tells the user `message` and counts as a failure of the hub, such as the cluster's."""
    error = web.HTTPError(status, message)
    # What JupyterHub shows on its pages.
    error.jupyterhub_message = message  # type: ignore[attr-defined]
    return error


def from_error(error: ProfileSpawnerError, display_name: str, say: Callable[[str], str] = str) -> web.HTTPError:
    """Return the exception for an error of this project; only a fault of the cluster counts as a failure of the hub.

    Args:
        error: What happened.
        display_name: The profile's.
        say: Puts a text into the user's language.
    """
    if isinstance(error, ClusterError):
        if error.blame == "cluster":
            return hub_failure(503, say(error.user_message))
        status = {"user": 400, "profile": 422, "admin": 403}.get(error.blame, 400)
        return refusal(say(error.user_message), reason=error.reason, status=status, log_message=str(error))
    return refusal(
        say(Text(MISTAKE, name=display_name)),
        reason="profile_error",
        status=422,
        log_message=str(error),
    )
