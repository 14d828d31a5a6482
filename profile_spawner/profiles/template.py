"""`Template`: a text of a hook in which references are replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ValidatorFunctionWrapHandler, WrapValidator

__all__ = ["Template", "TemplateText", "as_templates"]


class Template(str):
    """A text in which `{{ references }}` are replaced, such as `Template("user: {{ username }}")`.

    All other texts that hooks return are literal, because a hook may copy what a user typed into them. Do not put a
    user's text into a template: refer to it. A text that is made of a template, for example with `+` or an f-string, is
    literal. In the result of `get_kubespawner_override()`, KubeSpawner expands its own `{username}` and the like in
    templates.
    """

    __slots__ = ()


def _keep(value: Any, handler: ValidatorFunctionWrapHandler) -> str:
    text: str = handler(value)
    return Template(text) if isinstance(value, Template) else text


TemplateText = Annotated[str, WrapValidator(_keep)]
"""The type of a text that may be a `Template`; pydantic would return it as a plain text."""


def as_templates(value: Any, convert: Callable[[str], str] = Template) -> Any:
    """Return a copy in which every text that can be a template is one.

    Args:
        value: A text, a mapping, a list or tuple of texts, or an object that hooks return. Keys are not changed.
        convert: Returns the template of a text.
    """
    if isinstance(value, str):
        return convert(value)
    if isinstance(value, Mapping):
        return {k: as_templates(v, convert) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_templates(v, convert) for v in value]
    if isinstance(value, BaseModel):
        fields = [name for name in getattr(value, "TEMPLATES", ()) if getattr(value, name) is not None]
        return value.model_copy(update={name: as_templates(getattr(value, name), convert) for name in fields})
    return value
