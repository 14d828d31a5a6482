"""Validates and authorises what a user has chosen, in the form, by a link, or through the REST API."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jupyterhub.utils import maybe_future

from profile_spawner.profiles.selection import Problem, Rejection, Selection
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.texts import Text

from .form import INCOMPLETE, has_own_options, remember_rejected, uses_own_template
from .refusals import refusal, silent
from .seams import uncounted
from .starting import ChosenProfile

if TYPE_CHECKING:
    from .spawner import ProfileSpawner

__all__ = ["choose", "form_options", "is_outdated", "link_options"]

Parse = Callable[[Mapping[str, Any]], Any]
"""JupyterHub's method that calls the configured `options_from_form`."""


async def choose(spawner: ProfileSpawner, request: Any) -> ChosenProfile | None:
    """Return the validated and authorised choice for a start; `None` where no profiles are configured.

    Args:
        spawner: The server's spawner.
        request: The `user_options`, of any shape.

    Raises:
        tornado.web.HTTPError: If the choice is not valid. It is not counted as a failure of the hub.
    """
    snapshot = await spawner.catalogue()
    if snapshot is None:
        if isinstance(request, Mapping) and request.get("profile"):
            spawner.log.warning("A profile was requested, but no profiles are configured")
        return None
    result = _with_reason(spawner, snapshot.select(request, spawner.user_info, others=has_own_options(spawner)))
    if not isinstance(result, Rejection):
        result = await _check_params(spawner, snapshot, result)
    if isinstance(result, Rejection):
        spawner.forget_bad_options()
        spawner.log.info("Refused options of %s: %s", spawner.log_name, result.message)
        uncounted(spawner)
        raise _refused(spawner, result)
    spawner.good_options = dict(result.user_options)
    # A hook may change the very dictionary that was chosen from.
    before, (listed, _) = copy.deepcopy(request), spawner.own_profile_list()
    return ChosenProfile(before, listed, snapshot, result, snapshot.entries[result.slug])


def is_outdated(spawner: ProfileSpawner, chosen: ChosenProfile) -> bool:
    """Return whether a hook may have changed, since the choice, what KubeSpawner reads only at the start."""
    listed, shared = spawner.own_profile_list()
    # A list of this server's own can have been changed in place.
    own = not (shared or callable(listed))
    return own or chosen.listed is not listed or chosen.request != spawner.user_options


async def _check_params(spawner: ProfileSpawner, snapshot: Snapshot, selection: Selection) -> Selection | Rejection:
    """Return the choice if the administrator allows what it sets, and every param that it needs has a value."""
    if snapshot.resolver is None:
        return selection
    try:
        return snapshot.check_choice(selection, **await spawner.param_layers())
    except Exception:  # noqa: BLE001 - not the user's mistake: the start reports it
        return selection


def _with_reason(spawner: ProfileSpawner, result: Selection | Rejection) -> Selection | Rejection:
    """Add to a rejection that the profile may be missing because the function in `profile_list` failed."""
    if not isinstance(result, Rejection) or result.slug is not None or spawner.list_problem is None:
        return result
    return replace(result, problems=(Problem("profile", Text(INCOMPLETE)), *result.problems))


def _refused(spawner: ProfileSpawner, rejection: Rejection) -> Exception:
    return refusal(spawner.say(rejection.message), reason="invalid_options", log_message=rejection.message)


async def _parse(
    spawner: ProfileSpawner, fields: Mapping[str, Any], parse: Parse
) -> tuple[dict[str, Any], Selection | None]:
    """Return a posted form or a link's query as `user_options`, and what they select; `None` without any profiles.

    Raises:
        tornado.web.HTTPError: If they are not valid. The form shows the error of each field.
    """
    snapshot = await spawner.catalogue()
    user = spawner.user_info
    spawner.offers = snapshot.offers_for(user) if snapshot is not None else None
    try:
        options = dict(await maybe_future(parse(fields)))
    finally:
        spawner.offers = None
    if snapshot is None:
        return options, None
    result = _with_reason(spawner, snapshot.select(options, user, others=has_own_options(spawner)))
    if not isinstance(result, Rejection):
        result = await _check_params(spawner, snapshot, result)
    if not isinstance(result, Rejection):
        return options, result
    if uses_own_template(spawner):
        raise _refused(spawner, result)
    remember_rejected(options, result, spawner.name)
    raise silent(400, result.message)


async def form_options(spawner: ProfileSpawner, form_data: Mapping[str, Any], parse: Parse) -> dict[str, Any]:
    """Return the posted form as `user_options`, validated and authorised; see `run_options_from_form`."""
    options, selection = await _parse(spawner, form_data, parse)
    return options if selection is None else dict(selection.user_options)


async def link_options(spawner: ProfileSpawner, query_data: Mapping[str, Any], parse: Parse) -> dict[str, Any]:
    """Return a link's choice as `user_options`, validated and authorised; see `options_from_query`."""
    options, selection = await _parse(spawner, query_data, parse)
    if selection is None:
        return options
    chosen = set(selection.user_options) - {"profile"}
    listed = spawner.linked_start == "choices" and not selection.typed
    if spawner.linked_start == "confirm" or (chosen and not listed) or "profile" not in options:
        # JupyterHub shows the form when reading a link fails; here nothing is wrong.
        remember_rejected(options, None, spawner.name)
        raise silent(200, "the link's choice is shown and not started")
    return dict(selection.user_options)
