"""Labels decide who owns what, for any user and server name."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.kube.identity import ServerIdentity
from profile_spawner.names import LABEL_MANAGED_BY, LABEL_USER, MANAGED_BY, is_label_value

from .conftest import identity

TEXT = st.text(max_size=200)
IDENTITY = st.builds(
    ServerIdentity,
    hub=TEXT, user=TEXT, server=TEXT, namespace=st.just("n"), pod_name=st.just("p"),
    spawn_id=st.text(min_size=1, max_size=80), profile=TEXT, generation=TEXT,
)  # fmt: skip


@given(who=IDENTITY)
def test_all_labels_are_valid(who: ServerIdentity) -> None:
    """Whatever the names, Kubernetes takes the labels."""
    for labels in (who.labels(), who.owned_labels(), who.shared_labels(), who.persistent_labels()):
        assert all(is_label_value(value) and value for value in labels.values())
        assert labels[LABEL_MANAGED_BY] == MANAGED_BY


@given(one=IDENTITY, other=IDENTITY)
def test_only_the_same_server_is_not_foreign(one: ServerIdentity, other: ServerIdentity) -> None:
    """Hub, user and server name decide; the spawn tells this start from an earlier one."""
    assert one.owns(one.labels()) == "same-spawn"
    same = (one.hub, one.user, one.server) == (other.hub, other.user, other.server)
    assert (one.owns(other.labels()) == "foreign") == (not same)
    assert one.owns_persistent(other.persistent_labels()) == ((one.hub, one.user) == (other.hub, other.user))


def test_labels_that_are_missing_prove_nothing() -> None:
    """Neither no labels nor a part of them make an object ours."""
    me = identity("n")
    assert me.owns(None) == me.owns({}) == me.owns(me.shared_labels()) == me.owns(me.persistent_labels()) == "foreign"
    assert not me.owns_persistent({})
    assert me.owns(identity("n", spawn_id="other").labels()) == "older"
    assert identity("n", spawn_id="").owns(identity("n", spawn_id="").labels()) == "older"


@given(one=IDENTITY, other=IDENTITY)
def test_a_pod_stays_its_spawns_own(one: ServerIdentity, other: ServerIdentity) -> None:
    """Whatever the hub and the user are called meanwhile; a pod of another spawn of theirs is not."""
    renamed = replace(one, hub=other.hub, user=other.user)
    pod = {"metadata": {"labels": one.labels()}}
    assert renamed.may_stop(pod)
    assert not replace(renamed, spawn_id=one.spawn_id + "x").may_stop(pod)
    assert replace(renamed, spawn_id="", recorded=("x", one.spawn_id)).may_stop(pod)
    assert not replace(renamed, spawn_id="").may_stop(pod)
    assert not renamed.may_stop({"metadata": {}})


def test_nobody_can_choose_the_name_of_anothers_label() -> None:
    """A user who is named like the shortened label of another user is still somebody else."""
    victim = identity("n", user="Ünal")
    thief = identity("n", user=victim.labels()[LABEL_USER])
    assert thief.labels()[LABEL_USER] != victim.labels()[LABEL_USER]
    assert not thief.owns_persistent(victim.persistent_labels())
