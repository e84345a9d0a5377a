"""A card says what it must in a fixed order, scores with floors, and stays short for many people."""

from __future__ import annotations

from dataclasses import replace

from clipmused_bids.report.model_card import Card, CardTable, Evaluated, model_card

SCORES = Evaluated(
    regime="unseen stimuli",
    group=CardTable(
        ["method", "metric", "score", "floor"],
        [["**ridge**", "mAP", "0.412", "0.070"], ["a|b", "mAP", "n/a", "0"]],
    ),
    people=CardTable(["participant", "mAP (floor)"], [["sub-01", "0.500 (0.071)"]]),
    verdicts=["beats the best linear baseline: no"],
)  # fmt: skip
CARD = Card(
    label="clipmused",
    method="Method `ridge`: a ridge regression [@hoerl1970]",
    software="clipmused-bids 0.1",
    data={"dataset": "Faces", "trials": "1,200 for training"},
    training={"seed": "3"},
    participants=("01", "02"),
    label_names=("cat", "dog"),
    left_out=(),
    evaluated=None,
    leakage=(),
    limits=("No images: text guidance only.",),
    commands={"Decode": "clipmused-bids BIDS_DIR OUTPUT_DIR participant --decode"},
    files={"model.safetensors": "ab" * 32},
)
SECTIONS = (
    "Model", "Intended use", "Evaluation", "Training data", "Participants", "Labels", "Training", "Limits", "Leakage",
    "Privacy", "How to use it", "Licence", "Citation", "Files", "References",
)  # fmt: skip


def test_every_section_is_there_in_order() -> None:
    text = model_card(CARD)
    assert text.startswith("---\nlibrary_name: clipmused-bids\nlicense: unknown\n")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)
    for words in (
        "- dataset: Faces\n- trials: 1,200 for training", "2 participants: sub-01, sub-02", "2 labels: cat, dog",
        "\n- No images: text guidance only.", "consent", "Not evaluated yet", "Out of scope: diagnosis",
        "(Hoerl and Kennard, 1970 [1])", "Mitchell et al., 2019 [2]", "| `model.safetensors` | `abab",
        "```\nclipmused-bids BIDS_DIR OUTPUT_DIR participant --decode\n```",
    ):  # fmt: skip
        assert words in text, words
    assert text.endswith("\n")


def test_leaks_are_listed_or_said_to_be_none() -> None:
    assert "## Leakage\n\nNone was found.\n\n## Privacy" in model_card(CARD)
    assert "## Leakage\n\n- one\n- two\n\n## Privacy" in model_card(replace(CARD, leakage=("one", "two")))


def test_scores_stand_beside_floors_and_verdicts() -> None:
    text = model_card(replace(CARD, evaluated=SCORES))
    assert "Not evaluated yet" not in text
    group = text.partition("## Evaluation")[2].partition("Scores of each participant")[0]
    rows = [line for line in group.splitlines() if line.startswith("|")]
    assert rows[2:] == ["| **ridge** | mAP | 0.412 | 0.070 |", "| a/b | mAP | n/a | 0 |"]
    assert len({row.count("|") for row in rows}) == 1
    assert "speak about: unseen stimuli" in group
    assert "\n- beats the best linear baseline: no\n" in group
    assert "<details>" not in text


def test_forty_people_and_eighty_labels_are_folded_away() -> None:
    people = [f"{k:02d}" for k in range(40)]
    rows = [[f"sub-{who}", "0.5 (0.1)"] for who in people]
    many = replace(
        CARD, participants=people, label_names=[f"thing{k}" for k in range(80)],
        left_out=[f"rare{k}" for k in range(30)],
        evaluated=replace(SCORES, people=CardTable(["participant", "mAP (floor)"], rows)),
        files={f"sub-{who}_model.safetensors": "ab" * 32 for who in people},
    )  # fmt: skip
    text = model_card(many)
    shown = "".join(part.partition("</details>")[2] for part in f"</details>{text}".split("<details>"))
    for summary in ("40 participants", "80 labels", "Scores of each participant", "Files of this folder"):
        assert f"<summary>{summary}</summary>" in text
    assert "sub-39" in text
    assert "sub-39" not in shown
    assert len(shown.splitlines()) < 110
    assert "rare11, and 18 more" in text
    assert "rare12" not in text
