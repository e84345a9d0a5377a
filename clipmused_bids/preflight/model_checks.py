"""Checks of what may have to be fetched: CLIP weights and templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clipmused_bids.config import Config
from clipmused_bids.dataset.atlases.template_flow import template_home
from clipmused_bids.errors import ClipMusedError, ExitCode
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.preflight.check import Check, failed


def model_checks(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """Look for CLIP weights and templates, and say whether anything may be fetched."""
    yield _clip(config)
    yield template_check(config, environ)
    fetched = "is not used (--offline)" if config.offline else "may be used (--no-offline)"
    yield Check("network", "ok", f"{fetched}: for templates and weights that are not here")


def _clip(config: Config) -> Check:
    if not METHODS[config.method].guided or config.inputs.targets is not None:
        return Check("CLIP weights", "ok", "not needed")
    if config.actions and not {"prepare", "train"} & set(config.actions):
        return Check("CLIP weights", "ok", "not needed to decode or evaluate")
    from clipmused_bids.targets.clip import find_tower

    options = config.hyperparameters().targets
    try:
        source = find_tower(options.clip_model, weights=options.clip_weights)
    except ClipMusedError as error:
        return failed("CLIP weights", error)
    return Check(
        "CLIP weights", "ok", f"{options.clip_model}: {source.file or source.name.removeprefix('local-dir:')}"
    )


def template_check(config: Config, environ: Mapping[str, str]) -> Check:
    """Whether templates are here where the request names one.

    TemplateFlow itself is not asked: it would make its folder.
    """
    home = template_home(environ)
    found = sorted(path.name for path in home.glob("tpl-*")) if home.is_dir() else []
    text = f"{home}: {', '.join(found[:5]) or 'none'}{', ...' if len(found) > 5 else ''}"
    template = needed_template(config)
    if template is None:
        return Check("templates", "ok", f"{text}; none is needed")
    if f"tpl-{template}" in found:
        return Check("templates", "ok", text)
    hint = f"set TEMPLATEFLOW_HOME to a folder with tpl-{template}, or --no-offline where there is a network"
    if config.offline:
        return Check("templates", "FAIL", f"{text}; tpl-{template} is needed", hint, ExitCode.INPUT_MISSING)
    return Check("templates", "warning", f"{text}; tpl-{template} will be fetched", hint)


def needed_template(config: Config) -> str | None:
    """Template that ``--resample`` names."""
    return None if config.inputs.resample is None else config.inputs.resample.partition(":")[0]
