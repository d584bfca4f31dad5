"""Facts as JSON and in words."""

from __future__ import annotations

import doctest

import septet.cli._facts as facts
from septet.core.caps import Caps


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(facts)
    assert result.attempted >= 2
    assert result.failed == 0


def test_only_the_capabilities_that_are_set_are_named():
    assert facts.caps_json(Caps(text=True, topk=10, context=0)) == {"text": True, "topk": 10}


def test_a_method_whose_card_cannot_be_made_is_listed_as_broken(monkeypatch):
    from septet.core.errors import ConfigError

    def refuses(name: str) -> dict[str, object]:
        raise ConfigError("no defaults")

    monkeypatch.setattr(facts, "method_json", refuses)
    found, broken = facts.methods_json()
    assert found == []
    assert ("unite", "no defaults") in [(b.name, b.reason) for b in broken]
