from __future__ import annotations

import pytest

from clipmused_bids.cli.methods import METHOD_HELP, named_variants
from clipmused_bids.errors import UsageError
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.methods.variants import ABLATIONS, PAPER, VARIANTS


def names(*words: str) -> list[str]:
    return [variant.name for variant in named_variants(words)]


def test_lists_come_in_every_form_and_each_name_once() -> None:
    expected = ["ridge", "prevalence", "clip-mused:paper"]
    assert names("ridge", "prevalence", "clip-mused:paper") == expected
    assert names("ridge,prevalence", "clip-mused:paper", "ridge") == expected
    assert names("ridge, prevalence,clip-mused:paper") == expected
    assert names() == ["clip-mused"]


def test_groups_follow_the_registry() -> None:
    assert names("all") == [*METHODS, "clip-mused:paper"]
    assert names("all")[0] == "clip-mused"
    assert names("ablations") == [
        name for name in VARIANTS if name.startswith("clip-mused") and name != PAPER.name
    ]
    assert {one.name for one in ABLATIONS} < set(names("ablations"))
    assert set(names("all+ablations")) == set(VARIANTS) == set(names("all", "ablations"))
    assert names("ridge", "all")[0] == "ridge"
    assert all(name in METHOD_HELP for name in VARIANTS)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="--method rigde: unknown") as caught:
        names("ridge,rigde")
    assert caught.value.hint == "did you mean ridge?"
