"""CLIP features of stimuli as they were stored for a decoder: read without any CLIP model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache, stored_caches
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.stimuli.target_files import open_target_file
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Targets
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.clip_targets import join_features
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.target_source import FILE_PREFIX, source_identity, targets_of


def stored_features(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    stimulus_ids: Sequence[str],
    *,
    config: Mapping[str, Any],
) -> tuple[Targets | None, str]:
    """Read the features that a decoder was guided by, of any stimuli.

    Parameters
    ----------
    plan : Plan
    tree : OutputTree
    catalogue : Catalogue
    stimulus_ids : sequence of str
    config : mapping
        Configuration stored with the decoder.

    Returns
    -------
    targets : Targets or None
        Rows in the order of ``stimulus_ids``.
    reason : str
        Why there are none; empty where there are.
    """
    clip = config.get("clip")
    if not clip:
        return None, "the decoder was trained without CLIP targets"
    try:
        if str(clip["model"]).startswith(FILE_PREFIX):
            return _from_file(plan, catalogue, stimulus_ids, clip=clip)
        return _from_cache(tree, catalogue, stimulus_ids, config=config), ""
    except ClipMusedError as error:
        return None, str(error.args[0]).removesuffix(".")


def _from_file(
    plan: Plan, catalogue: Catalogue, stimulus_ids: Sequence[str], *, clip: Mapping[str, str]
) -> tuple[Targets | None, str]:
    if plan.config.inputs.targets is None:
        return None, f"the targets are those of a file ({clip['model']}) that --targets did not name"
    source = open_target_file(Path(plan.config.inputs.targets))
    if source_identity(source)["weights_sha256"] != clip["weights_sha256"]:
        return None, f"--targets names another file than the decoder's ({clip['model']})"
    return targets_of(source, catalogue, stimulus_ids), ""


def _from_cache(
    tree: OutputTree, catalogue: Catalogue, stimulus_ids: Sequence[str], *, config: Mapping[str, Any]
) -> Targets:
    clip, options = config["clip"], config["hyperparameters"]["targets"]
    folder = tree.embeddings(clip["model"])
    made_by = {"clip_model": clip["model"], "weights_sha256": clip["weights_sha256"]}
    caches = [
        one for one in stored_caches(folder) if all(one.settings.get(k) == v for k, v in made_by.items())
    ]
    images = [one for one in caches if one.settings.get("of") == "images" and _is_of(one, options["low"])]
    keys = [catalogue.content[k] for k in catalogue.rows_of(stimulus_ids) if catalogue.content[k]]
    # Of several forms of the low level, the one that knows most of these stimuli.
    images.sort(key=lambda one: len(one.missing(keys)))
    empty = EmbeddingCache(folder, {**made_by, "of": "images"})
    return join_features(
        images[0] if images else empty,
        EmbeddingCache(folder, {**made_by, "of": "sentences"}),
        catalogue,
        stimulus_ids,
        kind=options["high"],
        clip_model=clip["model"],
        weights_hash=clip["weights_sha256"],
    )


def _is_of(cache: EmbeddingCache, low: str) -> bool:
    return low in {"auto", cache.settings.get("low")}
