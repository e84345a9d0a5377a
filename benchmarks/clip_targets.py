"""CLIP features of pictures: pictures per second from files to stored features, beside the forward pass alone.

    python benchmarks/clip_targets.py [--model ViT-B-16] [--pictures 64] [--batch 32] [--threads 2] [--repeats 3]
                                      [--device cpu] [--stand-in 10] [--output clip_targets.json]

Random weights, PNG files of 425 x 425 pixels (``--format jpg`` for JPEG). By turns in one process, each repetition in
another order, all with the same number of threads:

- forward only: the model on tensors that are ready, in batches of the same size;
- the product, from files to stored shards (``prepare_targets``), and up to the features only (``encode_pictures``);
- the product's steps one after the other, without threads for reading;
- open_clip as its documentation shows it: open, transform and encode one picture at a time.

Then the same with a stand-in for a GPU: a model that takes ``--stand-in`` ms per picture and no processor. It shows
what reading ahead is worth where the forward pass does not compete with it for cores; it measures no GPU.

A ratio is that of one repetition to the forward pass of the same repetition; the median is shown. "Processor" is the
ratio of the least times of the processor, all threads together, which other work on the machine disturbs less. "Waits"
is the share of the time that the product spends outside the model: for pictures, for storing, at the start and at the
end. The first table shows what one picture costs in one thread. Prints tables and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import torch
from PIL import Image

from clipmused_bids.config import TargetOptions
from clipmused_bids.dataset.files.contents import content_hash
from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.stimuli.picture_contents import content_keys
from clipmused_bids.dataset.stimuli.pictures import open_image
from clipmused_bids.records import Picture, Stimuli
from clipmused_bids.stages import picture_features
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.clip_targets import TargetMaker, prepare_targets
from clipmused_bids.stages.picture_features import encode_pictures, picture_threads
from clipmused_bids.targets.clip import ClipModel, pixels_of, start_encoding
from clipmused_bids.targets.features import low_level

SIDE = 425  # pixels; as the pictures of the Natural Scenes Dataset


@dataclass
class Watch:
    """Seconds inside the model."""

    inside: float = 0.0
    start: object = field(default=start_encoding)

    def __call__(self, clip, pixels, *, batch_size):
        begun = time.perf_counter()
        encoding = self.start(clip, pixels, batch_size=batch_size)
        self.inside += time.perf_counter() - begun
        return encoding


@dataclass(frozen=True)
class Bench:
    clip: ClipModel
    files: list[Path]
    folder: Path
    batch: int
    ready: list[torch.Tensor]

    def forward_only(self):
        for pixels in self.ready:
            start_encoding(self.clip, pixels, batch_size=self.batch).rows()

    def to_shards(self):
        catalogue, maker, tree = self.world("projection")
        assert not prepare_targets(maker, catalogue, list(catalogue.stimuli.stimulus_id), tree)

    def to_features(self):
        groups = [{str(k): Picture(path) for k, path in enumerate(self.files)}]
        encode_pictures(
            self.clip,
            groups,
            batch_size=self.batch,
            finish=lambda _, high: {"image": high},
            store=lambda *_: None,
        )

    def one_after_the_other(self):
        cache = EmbeddingCache(Path(tempfile.mkdtemp(dir=self.folder)), {})
        parts = []
        for start in range(0, len(self.files), self.batch):
            some = [pixels_of(self.clip, open_image(path)) for path in self.files[start : start + self.batch]]
            parts.append(start_encoding(self.clip, torch.stack(some), batch_size=self.batch).rows())
        low = finished(self.clip, np.concatenate([part[0] for part in parts]))
        features = {"low": low, "image": np.concatenate([part[1] for part in parts])}
        cache.add([f"{k:064x}" for k in range(len(self.files))], features)

    def documented(self):
        for path in self.files:
            pixels = self.clip.preprocess(Image.open(path)).unsqueeze(0).to(self.clip.device)
            with torch.no_grad():
                self.clip.network.encode_image(pixels).cpu()

    def world(self, low):
        """Catalogue, maker and output tree over the files; keys begin alike, so that they are one shard."""
        tree = OutputTree(Path(tempfile.mkdtemp(dir=self.folder)))
        n = len(self.files)
        names = tuple(f"{k:05d}" for k in range(n))
        pictures = tuple(Picture(path) for path in self.files)
        stimuli = Stimuli(names, pictures, ((),) * n, ("x",), np.full((n, 1), np.nan), single_label=False)
        catalogue = Catalogue(stimuli, tuple(f"{k:064x}" for k in range(n)), {}, simulated=False)
        folder = tree.embeddings("bench")
        maker = TargetMaker(
            clip=self.clip,
            options=TargetOptions(batch_size=self.batch),
            images=EmbeddingCache(folder, {"of": "images"}),
            texts=EmbeddingCache(folder, {"of": "sentences"}),
            low_kind=low,
        )
        return catalogue, maker, tree


def finished(clip, raw):
    low = low_level(raw, kind="projection", n_patches=clip.n_patches, projection_width=4096, seed=0)
    return low.astype(np.float16)


def random_clip(name, device) -> ClipModel:
    torch.manual_seed(0)
    network, _, preprocess = open_clip.create_model_and_transforms(name, device=device)
    network.eval().requires_grad_(False)
    tokenize = open_clip.get_tokenizer(name)
    clip = ClipModel(name, network, preprocess, tokenize, device, "random", 0, 0, 0)
    pixels = preprocess(Image.new("RGB", (SIDE, SIDE)))[None].to(device)
    out = network.visual.forward_intermediates(pixels, indices=[0], output_fmt="NLC")
    n_patches, width = out["image_intermediates"][0].shape[1:]
    return replace(
        clip, n_patches=n_patches, patch_width=width, embedding_width=out["image_features"].shape[1]
    )


class StandIn(torch.nn.Module):
    """Takes its time and no processor, as the host sees a GPU."""

    def __init__(self, clip, milliseconds):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.visual = SimpleNamespace(forward_intermediates=self.levels)
        self.shape = (clip.n_patches, clip.patch_width, clip.embedding_width)
        self.seconds = milliseconds / 1000

    def levels(self, pixels, **_):
        n_patches, width, embedding = self.shape
        end = time.perf_counter() + self.seconds * len(pixels)
        low, high = torch.ones(len(pixels), n_patches, width), torch.ones(len(pixels), embedding)
        time.sleep(max(0.0, end - time.perf_counter()))
        return {"image_intermediates": [low], "image_features": high}

    def encode_image(self, pixels):
        return self.levels(pixels)["image_features"]


def make_pictures(folder, n, suffix):
    """Soft shapes with noise, so that files are about as large as those of photographs."""
    rng = np.random.default_rng(0)
    for k in range(n):
        coarse = Image.fromarray(rng.integers(0, 255, (14, 14, 3), dtype=np.uint8))
        soft = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(int)
        pixels = np.clip(soft + rng.integers(-12, 12, soft.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:05d}.{suffix}")
    return sorted(folder.glob(f"*.{suffix}"))


def milliseconds(function, n, repeats=5):
    """Least time of some calls, per picture."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begun)
    return 1000 * min(taken) / n


def costs(clip, folder, *, threads):
    """What one picture costs, in one thread but for the last row."""
    torch.set_num_threads(1)
    found = {}
    for suffix in ("png", "jpg"):
        (place := folder / f"costs-{suffix}").mkdir()
        files = make_pictures(place, 32, suffix)
        found[f"{suffix}: kB"] = files[0].stat().st_size / 1000
        found[f"{suffix}: hash"] = milliseconds(lambda files=files: [content_hash(p) for p in files], 32)
        keys = partial(content_keys, [Picture(path) for path in files])
        found[f"{suffix}: hash, several at a time"] = milliseconds(keys, 32)
        found[f"{suffix}: open"] = milliseconds(lambda files=files: [open_image(p) for p in files], 32)
    images = [open_image(path) for path in files]
    found["transform"] = milliseconds(lambda: [pixels_of(clip, image) for image in images], 32)
    raw = np.random.default_rng(0).standard_normal((32, clip.n_patches * clip.patch_width), dtype=np.float32)
    found["low level: projection"] = milliseconds(lambda: finished(clip, raw), 32)
    torch.set_num_threads(threads)
    pixels = torch.stack([pixels_of(clip, image) for image in images])
    found[f"forward, {threads} threads"] = milliseconds(
        lambda: start_encoding(clip, pixels, batch_size=32).rows(), 32, 3
    )
    return found


def compare(bench, *, repeats):
    """Pictures per second of each way, and its ratio to the forward pass of the same repetition."""
    ways = {
        "forward only": bench.forward_only,
        "product: files to shards": bench.to_shards,
        "product: files to features": bench.to_features,
        "one step after the other": bench.one_after_the_other,
        "open_clip, one at a time": bench.documented,
    }
    seconds = {name: [] for name in ways}
    processor = {name: [] for name in ways}
    waits = {name: [] for name in ways}
    bench.forward_only()
    for turn in range(repeats):
        order = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
        for name in order:
            picture_features.start_encoding = watch = Watch()
            begun, begun_processor = time.perf_counter(), time.process_time()
            ways[name]()
            seconds[name].append(time.perf_counter() - begun)
            processor[name].append(time.process_time() - begun_processor)
            if name.startswith("product"):
                waits[name].append(1 - watch.inside / seconds[name][-1])
    picture_features.start_encoding = start_encoding
    n = len(bench.files)
    return {
        name: {
            "pictures_per_second": n / statistics.median(taken),
            "ratio_to_forward_only": statistics.median(
                f / t for f, t in zip(seconds["forward only"], taken, strict=True)
            ),
            "waits": statistics.median(waits[name]) if waits[name] else None,
            "processor_ratio": min(processor["forward only"]) / max(min(processor[name]), 1e-9),
            "seconds": taken,
            "processor_seconds": processor[name],
        }
        for name, taken in seconds.items()
    }


def show(title, found):
    print(f"\n{title}\n{'':30}{'pictures/s':>12}{'/ forward':>11}{'processor':>11}{'waits':>8}")
    for name, one in found.items():
        waits = "" if one["waits"] is None else f"{one['waits']:.1%}"
        ratios = f"{one['ratio_to_forward_only']:>11.3f}{one['processor_ratio']:>11.3f}"
        print(f"{name:30}{one['pictures_per_second']:>12.2f}{ratios}{waits:>8}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--format", choices=("png", "jpg"), default="png")
    parser.add_argument("--stand-in", type=float, default=10.0, help="ms per picture; 0 leaves this out")
    parser.add_argument("--output", type=Path, help="JSON file; a list, to which the results are added")
    args = parser.parse_args()
    # As many readers as the model has threads.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)
    logging.getLogger().setLevel(logging.ERROR)
    clip = random_clip(args.model, args.device)
    outcome = {
        "benchmark": "clip_targets", "date": f"{datetime.now(UTC):%Y-%m-%d}", "model": args.model,
        "device": device_name(args), "cores": os.cpu_count(), "threads": args.threads,
        "reading_threads": picture_threads(args.device),
        "torch": torch.__version__, "load_average": os.getloadavg()[0], "pictures": args.pictures, "batch": args.batch,
        "format": args.format,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (place := Path(folder) / "pictures").mkdir()
        files = make_pictures(place, args.pictures, args.format)
        outcome["milliseconds_per_picture"] = found = costs(clip, Path(folder), threads=args.threads)
        print("ms per picture, or kB")
        for name, value in found.items():
            print(f"{name:34}{value:>9.3f}")
        pixels = [pixels_of(clip, open_image(path)) for path in files]
        ready = [
            torch.stack(pixels[k : k + args.batch]).to(args.device) for k in range(0, len(pixels), args.batch)
        ]
        bench = Bench(clip, files, Path(folder), args.batch, ready)
        outcome["model_itself"] = compare(bench, repeats=args.repeats)
        show(f"{args.model}, {args.device}, {args.threads} threads", outcome["model_itself"])
        if args.stand_in:
            network = StandIn(clip, args.stand_in)
            bench = replace(bench, clip=replace(clip, network=network, device="cpu"))
            bench = replace(bench, files=files * 4, ready=[batch.cpu() for batch in ready] * 4)
            outcome["stand_in"] = {"milliseconds": args.stand_in} | compare(bench, repeats=args.repeats)
            title = f"stand-in for a GPU, {args.stand_in:g} ms per picture and no processor"
            show(title, {k: v for k, v in outcome["stand_in"].items() if k != "milliseconds"})
    outcome["load_average_after"] = os.getloadavg()[0]
    if args.output:
        before = json.loads(args.output.read_text()) if args.output.is_file() else []
        args.output.write_text(json.dumps([*before, outcome], indent=1) + "\n")
    print(json.dumps(outcome))


def device_name(args):
    if args.device.startswith("cuda"):
        return torch.cuda.get_device_name(args.device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
