"""Every variant names a method and hyper-parameters that exist, and changes what it says."""

import re

import pandas as pd
import pytest

from clipmused_bids.config import as_tables, build_hyperparameters, merge, read_preset
from clipmused_bids.errors import UsageError
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.methods.variants import ABLATIONS, ADDITIONS, PAPER, VARIANTS, Variant, find_variant


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("preset", ["hcp", "nsd", "small"])
def test_a_variant_is_a_method_with_valid_hyperparameters(name: str, preset: str) -> None:
    variant = find_variant(name)
    assert variant.method in METHODS
    assert re.fullmatch(r"[0-9a-zA-Z+]+", variant.label)
    build_hyperparameters(merge(read_preset(preset), variant.overrides))


@pytest.mark.parametrize("variant", ABLATIONS, ids=lambda variant: variant.name)
def test_an_ablation_differs_from_the_whole_in_every_preset(variant: Variant) -> None:
    for preset in ("hcp", "nsd", "small"):
        assert changed(preset, variant)


@pytest.mark.parametrize("variant", ADDITIONS, ids=lambda variant: variant.name)
def test_an_addition_is_one_of_the_default_and_not_of_the_paper(variant: Variant) -> None:
    assert len(changed("small", variant)) == 1
    assert changed("small", variant).items() <= changed("small", PAPER).items()
    assert not changed("hcp", variant)
    assert not changed("nsd", variant)


def changed(preset: str, variant: Variant) -> dict[str, object]:
    """Options that a variant changes, and what to."""
    whole = build_hyperparameters(read_preset(preset))
    other = build_hyperparameters(merge(read_preset(preset), variant.overrides))
    before, after = (pd.json_normalize(as_tables(one)).iloc[0].to_dict() for one in (whole, other))
    return {name: value for name, value in after.items() if value != before[name]}


def test_every_named_variant_can_be_found() -> None:
    assert {*METHODS, PAPER.name, *(v.name for v in (*ABLATIONS, *ADDITIONS))} == set(VARIANTS)


def test_labels_of_variants_are_distinct() -> None:
    assert len({variant.label for variant in VARIANTS.values()}) == len(VARIANTS)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_variant("clip-mused:no-prep")
    assert caught.value.hint == "did you mean clip-mused:no-perp?"
