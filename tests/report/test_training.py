"""Training curves: every term by its name, members apart, and words on why training ended."""

from __future__ import annotations

import math

import pytest

from clipmused_bids.records import History
from clipmused_bids.report.training import (
    LEARNED,
    Course,
    closed_form,
    courses_of,
    curve_figures,
    training_curves,
    why_it_ended,
)
from tests.report.test_figures import texts

NAN = math.nan
COLUMNS = {
    "epoch": (0.0, 1.0),
    "loss": (NAN, 0.5),
    "loss_perp": (NAN, 0.1),
    "val_loss": (0.9, 0.4),
    "val_map": (0.2, 0.4),
}


def test_curves_name_each_term() -> None:
    course = Course("m", {**COLUMNS, "learning_rate": (1.0, 1.0)}, 1)
    drawn = texts(training_curves([course]))
    assert {"loss", "loss perp", "validation loss", "validation mAP", "weights kept"} <= set(drawn)
    assert "learning rate" not in drawn


def test_tokens_are_drawn_where_there_are_any() -> None:
    tokens = {"rank_low": (3.0, 2.0), "cosine_low": (0.1, 0.2), "agreement_low_high": (0.0, 0.3)}
    without, drawn = (texts(training_curves([Course("m", one, 1)])) for one in (COLUMNS, COLUMNS | tokens))
    titles = {"effective rank of tokens", "mean cosine of trials", "agreement with CLIP"}
    assert titles | {"low", "low with CLIP high"} <= set(drawn)
    assert not titles & set(without)


def test_equal_data_give_equal_bytes() -> None:
    one, other = Course("m", COLUMNS, 1), Course("m", COLUMNS, 0)
    assert training_curves([one]) == training_curves([one]) != training_curves([other])


def test_a_term_without_a_value_is_not_drawn() -> None:
    drawn = texts(training_curves([Course("m", {**COLUMNS, "loss_low": (NAN, NAN)}, 1)], LEARNED))
    assert "loss low" not in drawn


def test_members_are_told_apart_with_their_own_kept_epochs() -> None:
    columns = {"member": (1.0, 1.0, 2.0, 2.0, 2.0), "loss": (NAN, 1.0, NAN, 2.0, 3.0)}
    stopped = "member 1: epoch 1, after 1 epochs; member 2: epoch 2, after 2 epochs"
    first, second = courses_of(History(columns, 1, stopped), name="m")
    assert (first.kept, second.kept) == (1, 2)
    assert first.columns["loss"][1:] == [1.0]
    assert second.columns["loss"][1:] == [2.0, 3.0]
    (alone,) = courses_of(History({"member": (1.0, 1.0), "loss": (NAN, 1.0)}, 0, ""), name="m")
    assert (alone.name, alone.kept) == ("m", 0)


def test_the_alternative_text_has_first_and_last_value() -> None:
    figures = curve_figures([Course("m", COLUMNS, 1)], LEARNED)
    assert [figure.width for figure in figures] == ["half"] * 3
    assert (
        figures[2].alt
        == "validation mAP of m against the epoch: validation mAP from 0.2 to 0.4; weights kept of epoch 1."
    )


@pytest.mark.parametrize(
    ("by", "kept", "words"),
    [
        ("map", 1, "The weights of epoch 1 were kept, by the highest validation mAP."),
        ("loss", 1, "by the lowest validation loss."),
        (
            "loss-1se",
            0,
            "The weights that it started from (epoch 0) were kept, by the lowest validation loss, if",
        ),
    ],
)
def test_words_say_what_chose_the_weights(by: str, kept: int, words: str) -> None:
    config = {"stopped": "after 1 epochs", "hyperparameters": {"training": {"choose_by": by}}}
    text = why_it_ended(config, [Course("m", COLUMNS, kept)])
    assert text.startswith("Training went on for 1 epoch and ended for this reason: after 1 epochs.")
    assert words in text
    assert "not stored (after 1 epochs)" in why_it_ended(config, [])


def test_a_closed_form_says_what_was_chosen() -> None:
    history = History(
        {"epoch": (1.0,), "val_map": (0.5,), "alpha_01": (10.0,), "x": (NAN,)}, 0, "fitted in closed form"
    )
    assert closed_form(history).endswith("Chosen on validation trials: validation mAP 0.5, alpha 01 10.")
    assert closed_form(None) == "It is fitted in closed form: there is no training to show."
