from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.config import (
    PRESETS,
    Config,
    Hyperparameters,
    InputOptions,
    as_tables,
    build_hyperparameters,
    checked_inputs,
    merge,
    read_config_file,
    read_preset,
)
from clipmused_bids.errors import ExitCode, MissingInputError, UsageError

# Zhou et al. 2024 as far as the paper says it: table of section 4.1 and its text.
PAPER: dict[str, dict[str, Any]] = {
    "hcp": {
        "model.patches": "cnn", "model.width": 512, "model.depth": 2, "model.heads": 8, "model.readout": "none",
        "model.head": "mlp", "model.dropout": 0.0, "model.input_dropout": 0.0, "model.alignment": "random",
        "training.learning_rate": 1e-3, "training.decay_every": 25, "training.decay_factor": 0.7,
        "training.batch_size": 64, "training.lambda_perp": 0.001, "training.lambda_high": 0.001,
        "training.lambda_low": 0.1, "training.weight_decay": 0.0, "training.mixup": 0.0, "training.n_seeds": 1,
        "training.perp_scale": "batch", "responses.kind": "window", "responses.lag": 4.0,
        "min_label_frequency": 0.1, "fit_on": "train", "targets.clip_model": "ViT-B-16", "targets.high": "mean",
    },
    "nsd": {
        "model.patches": "roi", "model.width": 512, "model.depth": 24, "model.heads": 8, "model.readout": "none",
        "model.head": "mlp", "model.dropout": 0.0, "model.input_dropout": 0.0, "model.alignment": "random",
        "training.learning_rate": 1e-4, "training.decay_every": 0, "training.batch_size": 64,
        "training.lambda_perp": 0.001, "training.lambda_high": 0.001, "training.lambda_low": 0.0001,
        "training.weight_decay": 0.0, "training.mixup": 0.0, "training.n_seeds": 1, "training.perp_scale": "batch",
        "fit_on": "train", "targets.clip_model": "ViT-B-16", "targets.high": "mean",
    },
}  # fmt: skip


def value_of(options: Any, name: str) -> Any:
    for part in name.split("."):
        options = getattr(options, part)
    return options


@pytest.mark.parametrize(
    ("preset", "name", "value"),
    [(preset, name, value) for preset, values in PAPER.items() for name, value in values.items()],
)
def test_presets_of_the_paper_keep_its_values(preset: str, name: str, value: Any) -> None:
    assert value_of(build_hyperparameters(read_preset(preset)), name) == value


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_say_nothing_unknown_and_survive_toml(preset: str) -> None:
    built = build_hyperparameters(read_preset(preset))
    written = tomli_w.dumps(as_tables(built))
    assert build_hyperparameters(tomllib.loads(written)) == built


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type; bounds are left to the classes."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.fixed_dictionaries({}, optional={f.name: strategy(hints[f.name]) for f in fields(kind)})
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        return st.lists(strategy(get_args(kind)[0]), min_size=1, max_size=3)
    if get_args(kind):
        return strategy(next(one for one in get_args(kind) if one is not type(None)))
    return {
        bool: st.booleans(),
        int: st.integers(1, 4).map(lambda n: 8 * n),
        float: st.floats(0.001, 0.9),
        str: st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=8),
    }[kind]


@given(strategy(Hyperparameters))
def test_any_hyperparameters_survive_toml(tables: dict[str, Any]) -> None:
    tables.setdefault("model", {}).update(width=32, heads=8)
    for name in ("hrf", "standardize"):  # of which not every value goes with every other
        tables.get("responses", {}).pop(name, None)
    built = build_hyperparameters(tables)
    assert build_hyperparameters(tomllib.loads(tomli_w.dumps(as_tables(built)))) == built


@given(strategy(Hyperparameters), strategy(Hyperparameters))
def test_what_lies_over_wins_and_the_rest_stays(base: dict[str, Any], over: dict[str, Any]) -> None:
    def leaves(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found = {}
        for key, value in tables.items():
            found |= (
                leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
            )
        return found

    assert leaves(merge(base, over)) == {**leaves(base), **leaves(over)}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": {"width": "128"}}, r"model\.width = '128' must be int"),
        ({"model": {"width": 128.5}}, r"model\.width = 128.5 must be int"),
        ({"model": {"width": True}}, r"model\.width = True must be int"),
        ({"model": 3}, "model must be a table"),
        ({"model": {"patches": "vit"}}, r"model\.patches = 'vit' is unknown"),
        ({"model": {"patches": ["roi"]}}, r"model\.patches = \['roi'\] is unknown"),
        ({"training": {"learning_rate": "fast"}}, r"training\.learning_rate = 'fast' must be float"),
        ({"training": {"learning_rate": True}}, r"training\.learning_rate = True must be float"),
        ({"training": {"learning_rate": float("nan")}}, "learning_rate must be positive"),
        ({"training": {"decay_factor": 0.0}}, "decay_factor must be positive"),
        ({"training": {"lambda_low": -1}}, "lambda_low must not be negative"),
        ({"training": {"batch_size": 0}}, "batch_size must be positive"),
        ({"linear": {"alphas": 1.0}}, r"linear\.alphas must be a list"),
        ({"linear": {"alphas": []}}, "alphas must be positive"),
        ({"linear": {"alphas": [1.0, 0.0]}}, "alphas must be positive"),
        ({"model": {"width": 30, "heads": 4}}, "must be a multiple of model.heads 4"),
        ({"model": {"mlp_ratio": 0}}, "mlp_ratio must be positive"),
        ({"model": {"dropout": 1.0}}, r"dropout must lie in \[0, 1\)"),
        ({"min_label_frequency": 1}, r"min_label_frequency must lie in \[0, 1\)"),
        ({"responses": {"window": -1.0}}, "--window must lie in 0 to 120 s"),
        ({"responses": {"lag": float("inf")}}, "--lag must lie in 0 to 120 s"),
        ({"responses": {"hrf": "fir"}}, "--hrf fir: unknown"),
        ({"training": {"batchsize": 3}}, r"unknown value training\.batchsize"),
        ({"trainig": {}}, "unknown value trainig"),
    ],
)
def test_wrong_values_are_refused_by_name(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_hyperparameters(tables)


def test_whole_numbers_serve_as_fractions() -> None:
    built = build_hyperparameters({"training": {"learning_rate": 1}, "linear": {"alphas": [1, 2.5]}})
    assert (built.training.learning_rate, built.linear.alphas) == (1.0, (1.0, 2.5))
    assert isinstance(built.training.learning_rate, float)
    assert isinstance(built.linear.alphas[0], float)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"[model\nwidth = 3", UsageError, "not a TOML file"),
        (b"\xff\xfe", UsageError, "not a TOML file"),
        (b"[model]\nwidht = 3\n", UsageError, r"unknown value model\.widht"),
        (None, MissingInputError, "No such file"),
    ],
)
def test_configuration_files_that_cannot_serve(
    tmp_path: Path, content: bytes | None, kind: type[Exception], message: str
) -> None:
    file = tmp_path / "tuned.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(kind, match=message):
        read_config_file(file)


def config(**changes: Any) -> Config:
    return Config(bids_dir=Path("/b"), output_dir=Path("/o"), level="group", actions=(), **changes)


def test_explicit_values_lie_over_the_preset_and_the_preset_over_the_defaults() -> None:
    chosen = config(preset="nsd", overrides={"model": {"depth": 3}}).hyperparameters(default_preset="hcp")
    assert (chosen.model.depth, chosen.model.width, chosen.model.n_patches) == (3, 512, 8)
    assert config().hyperparameters(default_preset="hcp").model.patches == "cnn"


@pytest.mark.parametrize("label", ["my_model", "a b", "ünï", "", "a/b"])
def test_labels_of_models_are_labels_of_bids(label: str) -> None:
    with pytest.raises(UsageError, match="letters, digits and") as caught:
        config(model_label=label)
    assert caught.value.exit_code is ExitCode.USAGE
    assert config(model_label=str(caught.value.hint).removeprefix("--model-label "))


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(UsageError, match="--preset large"):
        config(preset="large")


@pytest.mark.parametrize("text", ["sometimes", "0", "-2", "nan"])
def test_gaps_of_blocks_are_seconds(text: str) -> None:
    with pytest.raises(UsageError, match="--merge-blocks"):
        InputOptions(merge_blocks=text)


def test_stored_inputs_become_what_the_fields_hold() -> None:
    stored = {"trial_types": ["face", "house"], "merge_blocks": "4", "common_space": False}
    assert checked_inputs(stored) == {**stored, "trial_types": ("face", "house")}
    with pytest.raises(UsageError, match=r"inputs\.common_space"):
        checked_inputs({"common_space": "no"})


def test_a_range_needs_a_unit() -> None:
    build_hyperparameters({"responses": {"scaling": "minmax", "standardize": "session"}})
    with pytest.raises(UsageError, match=r"responses\.scaling needs a unit"):
        build_hyperparameters({"responses": {"scaling": "minmax", "standardize": "none"}})
    assert build_hyperparameters(read_preset("hcp")).responses.scaling == "zscore"


def test_one_of_some_numbers_or_nothing() -> None:
    assert checked_inputs({"stimulus_index_base": 1}) == {"stimulus_index_base": 1}
    for wrong in (2, "1", True):
        with pytest.raises(
            UsageError, match=r"inputs\.stimulus_index_base = .* is unknown\.\nhint: one of 0, 1"
        ):
            checked_inputs({"stimulus_index_base": wrong})
