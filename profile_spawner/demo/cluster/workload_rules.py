"""The rules for what makes pods, and for the claims that it may make with them."""

from __future__ import annotations

from collections.abc import Iterator

from .answers import Cause, Object
from .pod_rules import pod_causes
from .quantities import parse_quantity
from .rules import label_causes, name_problem, not_allowed, one_of, required, selector_causes, wrong
from .selectors import match_label_selector

__all__ = [
    "claim_spec_causes",
    "deployment_change_causes",
    "job_causes",
    "job_change_causes",
    "stateful_set_change_causes",
    "workload_causes",
]

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def claim_spec_causes(spec: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with the spec of a PersistentVolumeClaim."""
    if not spec.get("accessModes"):
        yield required(f"{path}.accessModes", "at least 1 access mode is required")
    for mode in spec.get("accessModes", ()):
        yield from one_of(f"{path}.accessModes", mode, _ACCESS_MODES)
    if "selector" in spec:
        yield from selector_causes(spec["selector"], f"{path}.selector")
    amount = spec.get("resources", {}).get("requests", {}).get("storage")
    if amount is None:
        yield required(f"{path}.resources[storage]")
    elif parse_quantity(amount) <= 0:
        yield wrong(f"{path}.resources[storage]", amount, "must be greater than zero")
    if (name := spec.get("storageClassName")) and (problem := name_problem("subdomain", name)):
        yield wrong(f"{path}.storageClassName", name, problem)
    yield from one_of(f"{path}.volumeMode", spec.get("volumeMode"), ("Block", "Filesystem"))


def _template(spec: Object, restarts: tuple[str, ...]) -> Iterator[Cause]:
    template, where = spec["template"], "spec.template"
    yield from label_causes(template["metadata"].get("labels", {}), f"{where}.metadata.labels")
    yield from pod_causes(template["spec"], f"{where}.spec")
    yield from one_of(f"{where}.spec.restartPolicy", template["spec"]["restartPolicy"], restarts)


def workload_causes(document: Object) -> Iterator[Cause]:
    """Yield what is wrong with a Deployment or a StatefulSet."""
    spec = document["spec"]
    selector = spec.get("selector")
    labels = spec["template"]["metadata"].get("labels", {})
    if selector is None:
        yield required("spec.selector")
    elif not selector:
        yield wrong("spec.selector", selector, "empty selector is invalid for deployment")
    yield from selector_causes(selector or {}, "spec.selector")
    if selector is None or (selector and not match_label_selector(selector, labels)):
        yield wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if "strategy" in spec:
        yield from one_of("spec.strategy", spec["strategy"]["type"], ("Recreate", "RollingUpdate"))
    if spec["replicas"] < 0:
        yield wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    yield from _template(spec, ("Always",))
    for index, claim in enumerate(spec.get("volumeClaimTemplates", ())):
        yield from claim_spec_causes(claim["spec"], f"spec.volumeClaimTemplates[{index}].spec")


def deployment_change_causes(new: Object, old: Object) -> Iterator[Cause]:
    """Yield what must not change in a Deployment and does."""
    if new["spec"].get("selector") != old["spec"].get("selector"):
        yield wrong("spec.selector", new["spec"].get("selector"), "field is immutable")


def stateful_set_change_causes(new: Object, old: Object) -> Iterator[Cause]:
    """Yield what must not change in a StatefulSet and does."""
    free = ("replicas", "template", "updateStrategy", "minReadySeconds", "persistentVolumeClaimRetentionPolicy")
    before, after = ({k: v for k, v in document["spec"].items() if k not in free} for document in (old, new))
    if before != after:
        free_fields = "'replicas', 'template', and 'updateStrategy'"
        yield not_allowed("spec", f"updates to statefulset spec for fields other than {free_fields} are forbidden")


def job_causes(document: Object) -> Iterator[Cause]:
    """Yield what is wrong with a Job."""
    spec = document["spec"]
    for key in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if spec.get(key, 0) < 0:
            yield wrong(f"spec.{key}", spec[key], "must be greater than or equal to 0")
    yield from _template(spec, ("Always", "Never", "OnFailure"))
    if spec["template"]["spec"]["restartPolicy"] == "Always":
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')


def job_change_causes(new: Object, old: Object) -> Iterator[Cause]:
    """Yield what must not change in a Job and does."""
    for key in ("completions", "selector", "template"):
        if new["spec"].get(key) != old["spec"].get(key):
            yield wrong(f"spec.{key}", new["spec"].get(key), "field is immutable")
