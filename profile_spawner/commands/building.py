"""`manifests` and `pod`: what a start would create."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from profile_spawner.errors import BuildError, NotAvailableError, ProfileSpawnerError

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .loading import LoadedProfiles, find_entry, loaded
from .output import Format, masked, print_data, print_documents, progress, report_problems

__all__ = ["manifests", "pod", "preview"]

_Output = Annotated[Format, typer.Option("--output", help="yaml (documents) or json (one list).")]


def preview(found: LoadedProfiles, slug: str | None, user: UserOptions) -> Any:
    """Return what a start by this user would create, as `ProfileSpawner.preview` does.

    Args:
        found: The profiles.
        slug: The profile; `None` for the server of a hub without profiles.
        user: The user, and what is chosen.

    Raises:
        NotAvailableError: If the choice is refused. It has the message that the user would get.
        BuildError: when no pod can be made.
    """
    from tornado.web import HTTPError

    slug = find_entry(found.snapshot, slug).slug if slug is not None else None

    async def made() -> Any:
        return await found.spawner(user, slug).preview()

    try:
        return found.run(made())
    except HTTPError as e:
        cause = e.__cause__
        if isinstance(cause, ProfileSpawnerError):
            raise cause from None
        message = str(getattr(e, "jupyterhub_message", "") or e.log_message or e)
        raise NotAvailableError(message, profile=slug, field=f"user {user.name!r}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        # A plain entry is not validated, so KubeSpawner may raise any error for it.
        raise BuildError(f"KubeSpawner cannot make a pod of it: {type(e).__name__}: {e}", profile=slug) from None


@app.command()
def pod(
    slug: args.Slug,
    user: args.User = "user",
    groups: args.Groups = "",
    admin: args.Admin = False,
    server: args.Server = "",
    options: args.Options = None,
    output: _Output = Format.yaml,
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
) -> None:
    """Print the pod that a user would get, made by the installed KubeSpawner and checked as at a start.

    What the hub puts in at the start (its tokens) stands there as ***.
    """
    sources = Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
    viewer = UserOptions.of(user, groups, admin, server, options, auth_state)
    with loaded(sources, user=viewer) as found:
        seen = preview(found, slug, viewer)
    if output is Format.json:
        print_data(seen.pod, output)
    else:
        print_documents([seen.pod])


@app.command()
def manifests(
    slug: Annotated[str | None, typer.Argument(help="A profile's slug; all profiles by default.")] = None,
    secrets: Annotated[bool, typer.Option("--show-secrets", help="Print the values of Secrets too.")] = False,
    user: args.User = "user",
    groups: args.Groups = "",
    admin: args.Admin = False,
    server: args.Server = "",
    options: args.Options = None,
    output: _Output = Format.yaml,
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
) -> None:
    """Print every Kubernetes object that a start would create, ready for `kubectl apply --dry-run=server -f -`.

    An object that several profiles share is printed once. The values of Secrets are *** unless you ask for them.
    """
    sources = Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
    viewer = UserOptions.of(user, groups, admin, server, options, auth_state)
    with loaded(sources, user=viewer) as found:
        slugs = [find_entry(found.snapshot, slug).slug] if slug else list(found.snapshot.entries)
        objects: dict[tuple[str, str], Any] = {}
        failures = []
        for one in progress(slugs, "Building the pods"):
            try:
                seen = preview(found, one, viewer)
            except ProfileSpawnerError as e:
                if slug:
                    raise
                failures.append(e)
                continue
            for document in (*seen.manifests, seen.pod):
                # The pods of all profiles have one name: it is one server.
                key = (document["kind"], document["metadata"]["name"] + (f"/{one}" if document is seen.pod else ""))
                objects.setdefault(key, _kubectl_takes(document) if secrets else masked_for_kubectl(document))
    print_documents(objects.values(), output)
    raise typer.Exit(1 if report_problems([*failures, *([] if slug else found.snapshot.problems)]) else 0)


def masked_for_kubectl(document: Any) -> Any:
    """Return a manifest without a Secret's values, still of a form that the API server takes."""
    return masked(_kubectl_takes(document))


def _kubectl_takes(document: Any) -> Any:
    """Return a manifest user Secret has its values as texts: `***` is not base64."""
    if document.get("kind") != "Secret" or not document.get("data"):
        return document
    import base64

    if document.get("type") == "kubernetes.io/dockerconfigjson":
        return document
    texts = {k: base64.b64decode(v).decode("utf-8", "replace") for k, v in document["data"].items()}
    rest = {k: v for k, v in document.items() if k != "data"}
    return {**rest, "stringData": {**texts, **(document.get("stringData") or {})}}
