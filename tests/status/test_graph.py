"""How what people do stands follows from what it stands on, and the cause is told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.status.graph import Graph, GraphInvalid, default, read
from holdfast.status.model import Component, Standing
from holdfast.status.words import Words


def component(id_: str, *needs: str, any_of: tuple[tuple[str, ...], ...] = ()) -> Component:
    return Component(id_, Words(id_), needs=needs, any_of=any_of)


PAY = Graph(
    [
        component("pay", "ledger", any_of=(("north", "south"),)),
        component("shop", "pay"),
        component("ledger", "disk"),
        component("disk"),
        component("north"),
        component("south"),
    ]
)


@pytest.mark.parametrize(
    ("own", "pay"),
    [
        ({}, "operational"),
        ({"north": "major_outage"}, "degraded_performance"),
        ({"north": "degraded_performance"}, "operational"),
        ({"north": "major_outage", "south": "degraded_performance"}, "degraded_performance"),
        ({"north": "major_outage", "south": "major_outage"}, "major_outage"),
        ({"disk": "partial_outage"}, "partial_outage"),
        ({"disk": "partial_outage", "north": "major_outage", "south": "major_outage"}, "major_outage"),
        ({"pay": "under_maintenance"}, "under_maintenance"),
    ],
)
def test_one_provider_down_degrades_and_all_down_stops(own: dict[str, Standing], pay: Standing) -> None:
    assert PAY.standings(own)["pay"] == PAY.standings(own)["shop"] == pay


def test_the_root_cause_is_told_once_and_not_what_follows_from_it() -> None:
    own: dict[str, Standing] = {"disk": "major_outage"}
    assert PAY.roots(own, PAY.standings(own), "shop") == ("disk",)
    assert PAY.roots({}, PAY.standings({}), "shop") == ()
    both: dict[str, Standing] = {"north": "major_outage", "south": "major_outage"}
    assert PAY.roots(both, PAY.standings(both), "shop") == ("north", "south")


@pytest.mark.parametrize(
    ("components", "words"),
    [
        ([component("a"), component("a")], "two components"),
        ([component("a", "b")], "not a component"),
        ([component("a", "b"), component("b", "c"), component("c", "a")], "needs itself"),
        ([component("a", any_of=(("a",),))], "needs itself"),
        ([], "1 to"),
    ],
)
def test_a_graph_that_cannot_be_is_refused_with_the_component_named(
    components: list[Component], words: str
) -> None:
    with pytest.raises(GraphInvalid, match=words):
        Graph(components)


def test_a_file_with_an_unknown_key_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "graph.toml"
    path.write_text('[[component]]\nid = "a"\nname = { en = "A" }\nneed = ["b"]\n')
    with pytest.raises(GraphInvalid, match="need"):
        read(path)


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ({"capability": "pay", "rail": "balance"}, "pay-balance"),
        ({"capability": "pay", "rail": "north"}, "north"),
        ({"capability": "refund", "rail": "north"}, "north"),
        ({"capability": "top_up"}, "top-up"),
        ({"rail": "harbour", "bank": "b1"}, "harbour"),
        ({"rail": "unheard-of"}, None),
    ],
)
def test_what_is_measured_finds_the_component_it_belongs_to(node: dict[str, str], found: str | None) -> None:
    assert default().match(node) == found


def test_the_graph_as_shipped_speaks_both_languages_and_says_what_still_works() -> None:
    for one in default().components.values():
        assert one.name.en
        assert one.name.zh
        if one.kind == "capability":
            assert one.fallback.en
            assert one.fallback.zh
