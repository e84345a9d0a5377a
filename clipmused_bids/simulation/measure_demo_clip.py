"""Measure a CLIP on scenes it has not seen: ``python -m clipmused_bids.simulation.measure_demo_clip FOLDER``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from clipmused_bids.simulation.oracle import mean_average_precision
from clipmused_bids.simulation.scenes import CATEGORIES, captions, draw_scenes, label_matrix, render
from clipmused_bids.targets.clip import encode_images, encode_texts, load_clip
from clipmused_bids.targets.features import postprocess
from clipmused_bids.targets.prompts import label_prompts


def measure(folder: Path, *, n_scenes: int, seed: int) -> dict[str, Any]:
    """Zero-shot figures on scenes of a seed.

    Parameters
    ----------
    folder : Path
        A CLIP in open_clip's local-dir form.
    n_scenes, seed : int
        Scenes of one to four objects.

    Returns
    -------
    dict
        ``label_map`` (macro mAP of the cosines with the label prompts), ``label_ap`` of each label, ``prevalence``,
        ``caption_recall_at_1`` and ``_at_5`` (the picture's own caption among those of all ``n_scenes``).
    """
    from PIL import Image

    clip = load_clip(f"local-dir:{folder}")
    scenes = draw_scenes(n_scenes, seed=seed)
    labels = label_matrix(scenes)
    image = postprocess(encode_images(clip, [Image.fromarray(render(scene)) for scene in scenes])[1])
    prompts = postprocess(encode_texts(clip, label_prompts(CATEGORIES)))
    sentences = postprocess(encode_texts(clip, [captions(scene)[0] for scene in scenes]))
    score = (image @ prompts.T).astype(np.float64)
    cosine = image @ sentences.T
    rank = (cosine > np.diag(cosine)[:, None]).sum(axis=1)
    per_label = [mean_average_precision(labels[:, [c]], score[:, [c]]) for c in range(len(CATEGORIES))]
    return {
        "n_scenes": n_scenes,
        "seed": seed,
        "label_map": round(float(np.mean(per_label)), 4),
        "label_ap": {name: round(value, 4) for name, value in zip(CATEGORIES, per_label, strict=True)},
        "prevalence": round(float(labels.mean()), 4),
        "caption_recall_at_1": round(float(np.mean(rank == 0)), 4),
        "caption_recall_at_5": round(float(np.mean(rank < 5)), 4),
        "weights_hash": clip.weights_hash,
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--scenes", type=int, default=1000, show_default=True)
@click.option("--seed", type=int, default=777, show_default=True)
def main(folder: Path, *, scenes: int, seed: int) -> None:
    """Print zero-shot figures of the CLIP in FOLDER as JSON."""
    click.echo(json.dumps(measure(folder, n_scenes=scenes, seed=seed), indent=2))


if __name__ == "__main__":
    main()
