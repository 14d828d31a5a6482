"""Makes the exception for an error, suitable for the installed JupyterHub.

JupyterHub counts failed spawns and stops after `consecutive_failure_limit` of them. An error of a user or a profile, or
a full quota, must not be counted. JupyterHub 6 has `SpawnException` for this. JupyterHub 5 counts every failure, so
there the counter is decreased by one before JupyterHub increases it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tornado import web

from profile_spawner.errors import ClusterError, ProfileSpawnerError
from profile_spawner.texts import Text

try:
    from jupyterhub.spawner import SpawnException
except ImportError:  # JupyterHub 5
    SpawnException = None

__all__ = ["from_error", "refusal", "running_hub", "silent", "uncounted"]


class _RefusalError(SpawnException or web.HTTPError, ValueError):  # type: ignore[misc]
    """The error that JupyterHub reports. It is a `ValueError` for callers of KubeSpawner's `load_user_options`."""


def uncounted(spawner: Any) -> None:
    """Exclude the next raised failure from the hub's failure limit."""
    if SpawnException is not None:
        return
    handler = getattr(spawner, "handler", None)
    hub = running_hub()
    # Those of the web application, of which the users have only a copy.
    settings = (
        handler.settings if handler is not None else hub.tornado_application.settings if hub is not None else None
    )
    if settings is not None:
        settings["failure_count"] = settings.get("failure_count", 0) - 1


def running_hub() -> Any:
    """Return the `JupyterHub` application with its web application; `None` outside of a hub."""
    from jupyterhub.app import JupyterHub

    hub = JupyterHub.instance() if JupyterHub.initialized() else None
    return hub if getattr(hub, "tornado_application", None) is not None else None


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


def _answer(status: int, message: str) -> web.HTTPError:
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
            return _answer(503, say(error.user_message))
        status = {"user": 400, "profile": 422, "admin": 403}.get(error.blame, 400)
        return refusal(say(error.user_message), reason=error.reason, status=status, log_message=str(error))
    message = Text(
        "“%(name)s” cannot be started because of a mistake in its definition. Your administrator finds the details in "
        "the hub's log. You can choose another profile.",
        name=display_name,
    )
    return refusal(
        say(message),
        reason="profile_error",
        status=422,
        log_message=str(error),
    )
