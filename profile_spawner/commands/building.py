"""`manifests` and `pod`: what a start would create."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from profile_spawner.errors import BuildError, NotAvailableError, ProfileSpawnerError

from .loading import LoadedProfiles, Sources, Whose, find_entry, loaded, run, with_sources, with_user
from .output import Format, masked, print_documents, progress, report_problems

__all__ = ["manifests", "pod", "preview"]

_Output = Annotated[Format, typer.Option("--output", help="yaml (documents) or json (one list).")]


async def preview(found: LoadedProfiles, slug: str, whose: Whose) -> Any:
    """Return what a start of this profile by this user would create, as `ProfileSpawner.preview` does.

    Raises:
        NotAvailableError: If the choice is refused. It has the message that the user would get.
        BuildError: when no pod can be made.
    """
    from tornado.web import HTTPError

    entry = find_entry(found.snapshot, slug)
    spawner = found.spawner(whose, entry.slug)
    try:
        return await spawner.preview()
    except HTTPError as e:
        cause = e.__cause__
        if isinstance(cause, ProfileSpawnerError):
            raise cause from None
        message = str(getattr(e, "jupyterhub_message", "") or e.log_message or e)
        raise NotAvailableError(message, profile=entry.slug, field=f"user {whose.user!r}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        # A plain entry is not validated, so KubeSpawner may raise any error for it.
        raise BuildError(f"KubeSpawner cannot make a pod of it: {type(e).__name__}: {e}", profile=entry.slug) from None


@with_user
@with_sources
def pod(
    sources: Sources,
    whose: Whose,
    slug: Annotated[str, typer.Argument(help="The profile's slug.", metavar="SLUG")],
    output: _Output = Format.yaml,
) -> None:
    """Print the pod that a user would get, made by the installed KubeSpawner and checked as at a start.

    What the hub puts in at the start (its tokens) stands there as ***.
    """
    run(_pod(sources, whose, slug, output))


async def _pod(sources: Sources, whose: Whose, slug: str, output: Format) -> None:
    async with loaded(sources, whose=whose) as found:
        seen = await preview(found, slug, whose)
    report_problems(seen.missing)
    if output is Format.json:
        from .output import print_data

        print_data(seen.pod, output)
    else:
        print_documents([seen.pod])


@with_user
@with_sources
def manifests(
    sources: Sources,
    whose: Whose,
    slug: Annotated[str | None, typer.Argument(help="A profile's slug; all profiles by default.")] = None,
    secrets: Annotated[bool, typer.Option("--show-secrets", help="Print the values of Secrets too.")] = False,
    output: _Output = Format.yaml,
) -> None:
    """Print every Kubernetes object that a start would create, ready for `kubectl apply --dry-run=server -f -`.

    An object that several profiles share is printed once. The values of Secrets are *** unless you ask for them.
    """
    raise typer.Exit(run(_manifests(sources, whose, slug, secrets, output)))


async def _manifests(sources: Sources, whose: Whose, slug: str | None, secrets: bool, output: Format) -> int:
    async with loaded(sources, whose=whose) as found:
        slugs = [find_entry(found.snapshot, slug).slug] if slug else list(found.snapshot.entries)
        documents: dict[tuple[str, str], Any] = {}
        failures = []
        missing: dict[str, ProfileSpawnerError] = {}
        for one in progress(slugs, "Building the pods"):
            try:
                seen = await preview(found, one, whose)
            except ProfileSpawnerError as e:
                if slug:
                    raise
                failures.append(e)
                continue
            missing |= {str(problem): problem for problem in seen.missing}
            for document in (*seen.manifests, seen.pod):
                # The pods of all profiles have one name: it is one server.
                key = (document["kind"], document["metadata"]["name"] + (f"/{one}" if document is seen.pod else ""))
                documents.setdefault(key, _kubectl_takes(document) if secrets else masked_for_kubectl(document))
        report_problems(missing.values())
        print_documents(documents.values(), output)
        return 1 if report_problems([*failures, *([] if slug else found.snapshot.problems)]) else 0


def masked_for_kubectl(document: Any) -> Any:
    """Return a manifest without a Secret's values, still of a form that the API server takes."""
    return masked(_kubectl_takes(document))


def _kubectl_takes(document: Any) -> Any:
    """Return a manifest whose Secret has its values as texts: `***` is not base64."""
    if document.get("kind") != "Secret" or not document.get("data"):
        return document
    import base64

    if document.get("type") == "kubernetes.io/dockerconfigjson":
        return document
    texts = {k: base64.b64decode(v).decode("utf-8", "replace") for k, v in document["data"].items()}
    rest = {k: v for k, v in document.items() if k != "data"}
    return {**rest, "stringData": {**texts, **(document.get("stringData") or {})}}
