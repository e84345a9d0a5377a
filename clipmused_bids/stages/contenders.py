"""What is trained and scored beside each other: the methods and ablations of one command, under their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clipmused_bids.config import Config, as_tables, build_hyperparameters, merge
from clipmused_bids.methods.registry import METHODS, MethodInfo
from clipmused_bids.methods.variants import VARIANTS, Variant, find_variant
from clipmused_bids.stages.plan import Plan

# What every evaluation of a group has beside the decoder.
BASELINES = ("ridge", "ridge-pooled", "ridge-stack", "prevalence")


@dataclass(frozen=True)
class Contender:
    """A method, or an ablation of one, with the label its decoder is stored under.

    Parameters
    ----------
    variant : Variant
    label : str
        Model label.
    main : bool
        Whether it is the decoder of ``--model-label`` itself.
    asked : bool
        Named by the user; else a baseline that an evaluation adds.
    """

    variant: Variant
    label: str
    main: bool
    asked: bool

    @property
    def name(self) -> str:
        """Name as ``--method`` takes it."""
        return self.variant.name

    @property
    def info(self) -> MethodInfo:
        """What the registry knows of its method."""
        return METHODS[self.variant.method]


def contenders(config: Config) -> tuple[Contender, ...]:
    """List the main decoder, the others that were asked for, and the baselines of a group's evaluation."""
    main = find_variant(config.variant or config.method)
    named = [main.name, *(name for name in config.compared if name != main.name)]
    scored = config.level == "group" and "evaluate" in config.actions
    added = [name for name in BASELINES if name not in named] if scored else []
    return tuple(
        Contender(
            variant=VARIANTS[name],
            label=config.model_label
            if name == main.name
            else label_beside(config.model_label, VARIANTS[name]),
            main=name == main.name,
            asked=name in named,
        )
        for name in (*named, *added)
    )


def asked_for(config: Config) -> tuple[Contender, ...]:
    """Those that the user named; the main one first."""
    return tuple(one for one in contenders(config) if one.asked)


def label_beside(model_label: str, variant: Variant) -> str:
    """Label of a decoder that is trained beside another on the same split."""
    return f"{model_label}+{variant.label}"


def plan_of(plan: Plan, contender: Contender) -> Plan:
    """Return the plan with the method, label and hyper-parameters of one contender."""
    overrides = contender.variant.overrides
    return replace(
        plan,
        config=replace(
            plan.config,
            method=contender.variant.method,
            variant=contender.name,
            model_label=contender.label,
            overrides=merge(plan.config.overrides, overrides),
        ),
        hyperparameters=build_hyperparameters(merge(as_tables(plan.hyperparameters), overrides)),
    )


def asked_hyperparameters(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of a stored decoder without those that its variant, or the fit to all folds, set itself."""
    variant = find_variant(stored.get("variant", stored["method"]))
    kept = _without(stored["hyperparameters"], variant.overrides)
    return _without(kept, {"fit_on": ""}) if "held_out" in stored["split"] else kept


def _without(tables: Mapping[str, Any], taken: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without(value, taken[name]) if isinstance(taken.get(name), Mapping) else value
        for name, value in tables.items()
        if name not in taken or isinstance(taken[name], Mapping)
    }
