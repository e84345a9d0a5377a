"""Every variant names a method and hyper-parameters that exist, and changes what it says."""

import re

import pytest

from clipmused_bids.config import as_tables, build_hyperparameters, merge, read_preset
from clipmused_bids.errors import UsageError
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.methods.variants import ABLATIONS, VARIANTS, find_variant


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("preset", ["hcp", "nsd", "small"])
def test_a_variant_is_a_method_with_valid_hyperparameters(name: str, preset: str) -> None:
    variant = find_variant(name)
    assert variant.method in METHODS
    assert re.fullmatch(r"[0-9a-zA-Z+]+", variant.label)
    build_hyperparameters(merge(read_preset(preset), variant.overrides))


@pytest.mark.parametrize("variant", ABLATIONS, ids=lambda variant: variant.name)
def test_an_ablation_differs_from_the_whole_in_every_preset(variant) -> None:
    for preset in ("hcp", "nsd", "small"):
        whole = as_tables(build_hyperparameters(read_preset(preset)))
        less = as_tables(build_hyperparameters(merge(read_preset(preset), variant.overrides)))
        assert whole != less


def test_labels_of_variants_are_distinct() -> None:
    assert len({variant.label for variant in VARIANTS.values()}) == len(VARIANTS)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_variant("clip-mused:no-prep")
    assert caught.value.hint == "did you mean clip-mused:no-perp?"
