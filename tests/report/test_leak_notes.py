from __future__ import annotations

from typing import Any

from clipmused_bids.report.leak_notes import leakage_fields, leakage_lines, merged_fields

CONFIG: dict[str, Any] = {
    "leakage": {"leaks": ["a stimulus is in two sets"], "warnings": ["two pictures are nearly equal"]},
    "standardization": {"sources": {"sub-02_run-1": "transductive", "sub-01_run-1": "training"}},
}


def test_fields_and_sentences_name_everything_once() -> None:
    fields = leakage_fields(CONFIG)
    assert fields == {
        "Leakage": ["a stimulus is in two sets"],
        "LeakageWarnings": ["two pictures are nearly equal"],
        "TransductiveUnits": ["sub-02_run-1"],
    }
    other = {**fields, "Leakage": ["another"], "TransductiveUnits": ["sub-03"]}
    merged = merged_fields([fields, other, fields])
    assert merged["Leakage"] == ["a stimulus is in two sets", "another"]
    assert merged["LeakageWarnings"] == ["two pictures are nearly equal"]
    scaled = "were standardised by all their trials, without labels"
    assert leakage_lines(merged) == [
        "LEAKAGE, allowed by --allow-leakage: a stimulus is in two sets.",
        "LEAKAGE, allowed by --allow-leakage: another.",
        "Leakage warning: two pictures are nearly equal.",
        f"Transductive: the responses of 2 unit(s) (sub-02_run-1, sub-03) {scaled}.",
    ]


def test_nothing_to_say() -> None:
    """Also of a decoder stored before leaks were."""
    assert leakage_lines(leakage_fields({})) == []
    assert leakage_lines(merged_fields([])) == []
