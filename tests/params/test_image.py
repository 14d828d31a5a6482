"""References to params in the text of an image."""

from __future__ import annotations

from typing import Any

import pytest

from profile_spawner import BaseAppProfile, Param
from profile_spawner.errors import BuildError, ParamError
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import check_profile_class
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.registry import Collector
from profile_spawner.profiles.selection import Selection
from tests.params.test_required import snapshot_with
from tests.snapshots import snapshot_of

ADA = UserInfo("ada")
TAGS = """
params:
  image/tag: {{schema: {{type: string}}, user_settable: true, default: "1"}}
  image/base: {{default: "lab-{{{{ image/tag }}}}"}}
profiles:
- {{slug: lab, display_name: Lab, image: "quay.io/x/{image}", {more} env: {{TAG: "{{{{ image/tag }}}}"}}}}
"""


class Tagged(BaseAppProfile):
    """A class with the same."""

    slug = "lab"
    display_name = "Lab"
    image = "quay.io/x/lab:{{ image/tag }}"


async def image_of(snapshot: Any, **request: Any) -> str:
    """Return the image of a server."""
    selection = snapshot.select({"profile": "lab", **request}, ADA)
    assert isinstance(selection, Selection), selection
    build = await snapshot.build(selection, ServerContext.example())
    return str(build.kubespawner_override["image"])


@pytest.mark.parametrize("image", ["lab:{{ image/tag }}", "{{image/base}}"])
async def test_a_reference_in_an_image_is_replaced_and_as_sensitive_as_a_param(image: str) -> None:
    """Users may choose a part of an image only for profiles that name the param, like a whole image."""
    closed = await snapshot_with(TAGS.format(image=image, more=""), "")
    assert not closed.problems
    assert (await image_of(closed)).startswith("quay.io/x/lab")
    assert not closed.entries["lab"].offer.options
    opened = await snapshot_with(TAGS.format(image=image, more="user_settable: [image/tag],"), "")
    assert (await image_of(opened, **{"image/tag": "2"}))[-1] == "2"
    for wrong in ("a b", "{{ username }}"):
        with pytest.raises(Exception, match="must be an image"):
            await image_of(opened, **{"image/tag": wrong})


async def test_a_class_may_have_one_too() -> None:
    """It is checked when it is registered and when it is built."""
    check_profile_class(Tagged)
    assert Tagged(params={"image/tag": "3"}).image == "quay.io/x/lab:3"
    with pytest.raises(ParamError, match="no param or fact 'image/tag'; did you mean 'image/tg'"):
        Tagged(params={"image/tg": "3"})
    with pytest.raises(Exception, match="must be an image"):
        check_profile_class(type("Wrong", (Tagged,), {"image": "two {{ image/tag }}"}))
    collector = Collector()
    collector.add_param(Param("image/tag", default="4"))
    collector.add(Tagged)
    snapshot = await snapshot_of(collector)
    assert snapshot.entries["lab"].effective["image"] == "quay.io/x/lab:4"


@pytest.mark.parametrize("image", ["x:{{ username }}", "x:{{ image/tag }}", Param.ref("image/tag")])
async def test_what_users_are_called_stands_in_no_image(image: Any) -> None:
    """Directly, or inserted into a param; the name of a label is safe."""
    own = type("Own", (Tagged,), {"image": image})
    collector = Collector()
    collector.add_param(Param("image/tag", default="x{{ servername }}"))
    collector.add(own)
    (problem,) = (await snapshot_of(collector)).problems
    assert isinstance(problem, BuildError)
    assert "may not stand in an image" in str(problem)
    assert type("Safe", (Tagged,), {"image": "x:{{ user_slug }}"})().image == "x:user"
