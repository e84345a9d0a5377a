"""CLIP targets of 100 real images through the command: time, size and forward passes, first and second run.

    PYTHONPATH=. python benchmarks/coco_targets.py COCO_DIR [--folder FOLDER] [--json FILE]

COCO_DIR holds `train2017`, `val2017` and `annotations` (captions_*.json, instances_*.json). Responses are random. The
demo CLIP and ViT-B-16 with random weights are used: no trained weights can be fetched offline. So times, sizes and
counts mean what they say, and the correlation of similarities with labels does not: it is that of a CLIP that has
learnt nothing about such images. Prints a table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr

from clipmused_bids.cli import main
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.outputs.embeddings import stored_caches
from clipmused_bids.dataset.stimuli.captions import read_captions
from clipmused_bids.dataset.stimuli.picture_contents import content_keys
from clipmused_bids.records import Picture
from clipmused_bids.targets import clip
from clipmused_bids.targets.features import high_level
from tests import coco_study

ARCHITECTURE = "ViT-B-16"


def random_weights(folder):
    """A model folder as open_clip's local-dir form has it."""
    torch.manual_seed(0)
    network = open_clip.create_model(ARCHITECTURE, pretrained=None)
    folder.mkdir(parents=True)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {
        "model_cfg": open_clip.get_model_config(ARCHITECTURE),
        "preprocess_cfg": {
            name: open_clip.get_model_preprocess_cfg(network)[name]
            for name in ("mean", "std", "interpolation", "resize_mode")
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))


class Passes:
    """Counts images and sentences that go through a network."""

    def __init__(self):
        self.images = self.sentences = 0
        # Behind all ways to the tower: what is counted is what it computes.
        towers = clip._both_levels  # noqa: SLF001
        texts = clip.encode_texts
        from clipmused_bids.stages import clip_targets

        def of_images(network, pixels):
            self.images += len(pixels)
            return towers(network, pixels)

        def of_texts(model, sentences, **more):
            self.sentences += len(sentences)
            return texts(model, sentences, **more)

        clip._both_levels, clip_targets.encode_texts = of_images, of_texts  # noqa: SLF001


def prepare(folder, coco, options, passes):
    passes.images = passes.sentences = 0
    printed, started, processor = io.StringIO(), time.perf_counter(), time.process_time()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        words = coco_study.command_words(folder, coco, "--prepare", *options)
        code = main([str(word) for word in words])
    if code != 0:
        raise SystemExit(printed.getvalue())
    # Loading a model sends one empty image through the tower, to measure it.
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
        "images": max(passes.images - 1, 0),
        "sentences": passes.sentences,
    }


def similarity(folder, coco):
    """Rank correlation over pairs of images: similarity of embeddings against overlap of COCO labels (Jaccard)."""
    files = coco_study.image_files(coco)
    names = [path.name for path in files]
    keys = content_keys([Picture(path) for path in files])
    (place,) = folder.glob("out/stimuli/desc-*_embeddings")
    caches = {cache.settings["of"]: cache for cache in stored_caches(place)}
    captions = read_captions(
        tuple(map(str, coco_study.annotations(coco, "captions"))), stimulus_ids=names, stimuli_table=None
    )
    image = caches["images"].read(keys, names=("image",))["image"].astype(np.float32)
    texts = [(n, text) for n, own in enumerate(captions) for text in own]
    text = caches["sentences"].read([digest(sentence) for _, sentence in texts])["text"]
    of = np.array([n for n, _ in texts])
    truth = coco_study.categories_of(coco)
    labels = [truth[name] for name in names]
    pairs = np.triu_indices(len(names), k=1)
    overlap = [
        len(labels[i] & labels[j]) / max(len(labels[i] | labels[j]), 1) for i, j in zip(*pairs, strict=True)
    ]
    found = {}
    for kind in ("text", "image", "mean"):
        values = high_level(image, text, stimulus_of_text=of, n_stimuli=len(names), kind=kind).values
        cosine = (values @ values.T)[pairs]
        found[kind] = {
            "spearman": round(float(spearmanr(cosine, overlap).statistic), 3),
            "cosine_mean": round(float(cosine.mean()), 3),
            "cosine_sd": round(float(cosine.std()), 4),
            "pairs_above_0.98": int((cosine > 0.98).sum()),
        }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("coco", type=Path)
    parser.add_argument("--folder", type=Path, help="where outputs are written, and removed again")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    passes, result = Passes(), {"images": 100, "threads": 1, "models": {}}
    with tempfile.TemporaryDirectory(dir=args.folder) as root:
        weights = Path(root) / "random"
        random_weights(weights)
        for name, options in {
            "demo": ("--clip-model", "demo"),
            f"{ARCHITECTURE}, random": ("--clip-model", ARCHITECTURE, "--clip-weights", weights),
        }.items():
            folder = Path(root) / name.split(",")[0]
            coco_study.write_study(folder, [path.name for path in coco_study.image_files(args.coco)])
            one = {
                "first": prepare(folder, args.coco, options, passes),
                "second": prepare(folder, args.coco, options, passes),
                "bytes": sum(p.stat().st_size for p in folder.glob("out/stimuli/desc-*/*.safetensors")),
                "similarity": similarity(folder, args.coco),
            }
            result["models"][name] = one
            print(
                f"{name}: first {one['first']}, second {one['second']}, {one['bytes'] / 2**20:.1f} MiB",
                flush=True,
            )
            for kind, values in one["similarity"].items():
                print(f"  {kind}: {values}", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
