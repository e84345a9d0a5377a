"""What each method is, in words, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping

_STACK = (
    "a sum of ridge regressions, weighted by their predictions of held-out training trials [@breiman1996]"
)
DESCRIPTIONS: Mapping[str, str] = {
    "clip-mused": "CLIP-MUSED [@zhou2024]",
    "ms-emb": "one transformer for all participants, whose class token is each participant's own [@chehab2022; "
    "@dosovitskiy2021]",
    "ms-smodel-vit": "one transformer for the pooled trials of all participants [@dosovitskiy2021]",
    "ms-smodel-mlp": "one multilayer perceptron for the pooled trials of all participants",
    "ss-vit": "a transformer for each participant [@dosovitskiy2021]",
    "ss-mlp": "a multilayer perceptron for each participant",
    "ridge": "a ridge regression for each participant [@hoerl1970], whose penalty was chosen by leaving groups of "
    "training trials out",
    "ridge-pooled": "one ridge regression for all participants [@hoerl1970] (in native space: after aligning them)",
    "ridge-stack": _STACK,
    "logistic": "a logistic regression for each participant, whose penalty was chosen by leaving groups of training "
    "trials out",
    "srm": "a shared response model with one logistic regression for all participants [@chen2015]",
    "prevalence": "each label's frequency among the training trials",
}


def described(name: str, description: str) -> str:
    """Say what a method is; ablations by what is said of them in the tables."""
    if name in DESCRIPTIONS:
        return f"{name}: {DESCRIPTIONS[name]}"
    return f"{name}: {DESCRIPTIONS[name.partition(':')[0]]}, {description}"
