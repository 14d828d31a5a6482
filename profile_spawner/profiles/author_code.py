"""Calls code of authors. Whatever it raises is a failure of its profile, and never ends the hub.

`SystemExit` of argparse or click would end the hub, and a `CancelledError` that a hook raises itself would look like
the end of the request. So all exceptions are caught, and only the real cancellation of the caller is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from profile_spawner.errors import BuildError, ClusterError, ProfileSpawnerError, described

__all__ = ["as_exception", "author_code", "call_author"]

Failure = Callable[[BaseException], BaseException]
"""Returns the error for an exception of an author's code; the exception itself to raise it unchanged."""


@contextlib.contextmanager
def author_code(failure: Failure) -> Iterator[None]:
    """Run an author's code that waits for nothing.

    Args:
        failure: Returns the error to raise. It is not called for errors of this project, except those of the cluster,
            which an author's code cannot know about.
    """
    try:
        yield
    except BaseException as e:
        if isinstance(e, ProfileSpawnerError) and not isinstance(e, ClusterError):
            raise
        try:
            error = failure(e)
        except BaseException:  # noqa: BLE001 - it may look at the author's class
            error = BuildError(described(e))
        if error is e:
            raise
        raise error from e


async def call_author(function: Callable[[], Any], failure: Failure) -> Any:
    """Call a function that runs an author's code, await its result if it can be awaited, and return it.

    Args:
        function: A function, `async` or not.
        failure: As for `author_code`.

    Raises:
        asyncio.CancelledError: Only when the caller is cancelled.
    """
    with author_code(failure):
        value = function()
        if not inspect.isawaitable(value):
            return value
    # In a task of its own, the author's CancelledError is a result, and the caller's is not.
    task = asyncio.ensure_future(_outcome(value))
    try:
        await asyncio.wait([task])
    except BaseException:
        task.cancel()
        raise
    result, error = task.result()
    with author_code(failure):
        if error is not None:
            raise error
    return result


def as_exception(error: BaseException) -> BaseException:
    """Return what JupyterHub takes for a failure of the start, for what a hook of an administrator raised."""
    return error if isinstance(error, Exception) else RuntimeError(described(error))


async def _outcome(value: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await value, None
    except BaseException as e:  # noqa: BLE001 - raised again by the caller
        return None, e
