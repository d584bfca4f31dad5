"""Building: every reason why members do not fit is listed at once, before anything is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from septet.core.errors import BadParameter, ConfigError, UnfitPool, UnknownName
from septet.testing.toys import toy_builder, toy_config

NESTED = """
[members]
ada = { backend = "toy" }

[ensembles.inner]
method = "unite"
members = ["ada", "outer"]

[ensembles.outer]
method = "unite"
members = ["ada", "inner"]
"""


def test_every_problem_of_a_pool_is_listed_in_one_error() -> None:
    members = {"ada": {"lacks": ["topk", "full"]}, "bob": {"lacks": ["continues"]}}
    with pytest.raises(UnfitPool) as caught:
        toy_builder(toy_config("unite", members=members, roles={"judge": ["cyd"]})).ensemble("toys")
    assert caught.value.problems == (
        "ada does not offer topk 10",
        "bob does not offer continues",
        "unite has no role 'judge' (it has: none)",
    )


def test_a_member_named_twice_is_refused() -> None:
    with pytest.raises(UnfitPool, match="named twice"):
        toy_builder(toy_config("unite", order=("ada", "ada"))).ensemble("toys")


def test_an_ensemble_that_contains_itself_is_refused() -> None:
    with pytest.raises(BadParameter, match="inner -> outer -> inner"):
        toy_builder(NESTED).check_names()


def test_members_that_are_like_each_other_in_a_circle_are_refused() -> None:
    text = "[members]\na = { like = 'b' }\nb = { like = 'a' }\n"
    with pytest.raises(BadParameter, match="must not lead back to itself"):
        toy_builder(text).check_names()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (toy_config("unit"), "unknown method 'unit' (ensembles.toys.method in septet.toml, line 7); did you"),
        (toy_config("unite", {"K": 3}), "unknown parameter of unite 'K'; did you mean 'k'?"),
        ("[members]\na = { backend = 'toys' }", "unknown backend 'toys'; did you mean 'toy'?"),
        (
            "[members]\na = { backend = 'toy', skil = 1 }",
            "unknown parameter of toy 'skil'; did you mean 'skill'",
        ),
        ("[members]\na = { backend = 'toy', prompt = 'cott' }", "unknown prompt 'cott'"),
    ],
)
def test_unknown_names_are_said_with_place_and_near_names(text: str, said: str) -> None:
    builder = toy_builder(text)
    with pytest.raises(UnknownName) as caught:  # noqa: PT012
        builder.check_names()
        builder.askable("a")
    words = said.replace(" (ensembles.toys.method in septet.toml, line 7)", "")
    assert words.split(";")[0] in str(caught.value)
    assert "in septet.toml, line" in str(caught.value)


def test_a_parameter_out_of_range_is_said_with_its_rule_and_line() -> None:
    with pytest.raises(BadParameter) as caught:
        toy_builder(toy_config("unite", {"k": 0})).check_names()
    assert "unite.k: must be ≥ 1 and ≤ 1000, got 0 (ensembles.toys.k in septet.toml, line" in str(
        caught.value
    )


def nested(depth: int) -> str:
    lines = ["[members]", "ada = { backend = 'toy' }", "bob = { backend = 'toy' }"]
    for level in range(depth):
        inner = f"level{level - 1}" if level else "bob"
        lines += [f"[ensembles.level{level}]", "method = 'unite'", f"members = ['ada', '{inner}']"]
    return "\n".join(lines)


def test_ensembles_nest_only_as_deep_as_the_limit_allows() -> None:
    assert toy_builder(nested(4)).ensemble("level3").name == "level3"
    with pytest.raises(BadParameter, match="at most 4 deep"):
        toy_builder(nested(5)).ensemble("level4")


def test_an_ensemble_fans_out_only_as_wide_as_the_limit_allows() -> None:
    with pytest.raises(BadParameter, match="at most 2"):
        toy_builder(toy_config("unite", limits={"fan_out": 2})).ensemble("toys")


def test_the_same_name_for_a_member_and_an_ensemble_is_refused() -> None:
    with pytest.raises(ConfigError, match="names both"):
        toy_builder("[members]\nx = { backend = 'toy' }\n[ensembles.x]\nmethod = 'unite'\nmembers = ['x']")


def test_members_like_each_other_share_one_endpoint() -> None:
    text = (
        "[members]\na = { backend = 'toy' }\nb = { like = 'a', temperature = 0.5 }\nc = { backend = 'toy' }"
    )
    builder = toy_builder(text)
    made: dict[str, Any] = {name: builder.member(name) for name in "abc"}
    assert made["a"].endpoint == made["b"].endpoint == "a"
    assert made["c"].endpoint == "c"
    assert made["b"].spec.defaults.temperature == 0.5
    assert made["a"].identity != made["b"].identity


def test_the_state_of_other_members_is_refused(tmp_path: Path) -> None:
    import asyncio

    from septet.engine.states import save
    from septet.testing.toys import toy_house, toy_table

    text = toy_config("eagle", folder=tmp_path)

    async def fit() -> None:
        async with toy_house(text) as house:
            learned = await house["toys"].fit(toy_table())
            assert learned.members == ("ada", "bob", "cyd")
            save(tmp_path / "state", learned)

    asyncio.run(fit())
    with pytest.raises(
        ConfigError, match=r"was fitted for \['ada', 'bob', 'cyd'\], but 'toys' has \['bob', 'ada'\]"
    ):
        toy_builder(toy_config("eagle", order=("bob", "ada"), folder=tmp_path)).ensemble("toys")
