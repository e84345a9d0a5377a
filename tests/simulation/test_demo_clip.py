from __future__ import annotations

import gzip
import json
import logging
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.simulation import train_demo_clip
from clipmused_bids.simulation.measure_demo_clip import measure
from clipmused_bids.simulation.scenes import CATEGORIES, draw_scenes, label_matrix, render
from clipmused_bids.simulation.train_demo_clip import MODEL_CONFIG, Recipe, main, train, write_clip
from clipmused_bids.targets.clip import encode_images, encode_texts, load_clip
from clipmused_bids.targets.features import postprocess
from clipmused_bids.targets.prompts import label_prompts
from clipmused_bids.targets.similarity import similarity_matrix, upper_triangle_correlation

FOLDER = Path(str(files("clipmused_bids") / "data" / "demo_clip"))
TINY = Recipe(
    seed=1,
    n_single=8,
    n_mixed=8,
    text_steps=3,
    single_steps=2,
    mixed_steps=2,
    batch_size=4,
    learning_rate=1e-4,
)


@pytest.fixture(scope="module")
def unseen() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, raw low and high level of scenes no seed of which was trained on."""
    scenes = draw_scenes(250, seed=123_456)
    low, image = encode_images(load_clip("demo"), [Image.fromarray(render(scene)) for scene in scenes])
    return label_matrix(scenes), low, image


def test_shipped_clip_finds_labels_and_captions_of_unseen_scenes() -> None:
    found = measure(FOLDER, n_scenes=250, seed=123_457)
    assert found["label_map"] > 0.9
    assert found["caption_recall_at_1"] > 0.5
    assert found["prevalence"] < 0.3


def test_measured_precision_is_that_of_scikit_learn(unseen: tuple[np.ndarray, ...]) -> None:
    labels, _, image = unseen
    prompts = encode_texts(load_clip("demo"), label_prompts(CATEGORIES))
    score = cosine_similarity(np.clip(image, -1.5, 1.5), np.clip(prompts, -1.5, 1.5))
    precision = [average_precision_score(labels[:, c], score[:, c]) for c in range(len(CATEGORIES))]
    found = measure(FOLDER, n_scenes=250, seed=123_456)
    np.testing.assert_allclose(list(found["label_ap"].values()), precision, atol=1e-3)
    assert found["label_map"] == pytest.approx(np.mean(precision), abs=1e-3)
    # Scores of other scenes say nothing about these.
    assert np.mean([average_precision_score(labels[:, c], score[::-1, c]) for c in range(12)]) < 0.35


def test_the_levels_of_the_shipped_clip_differ(unseen: tuple[np.ndarray, ...]) -> None:
    """High-level similarity follows labels more than low-level similarity does."""
    labels, low, image = unseen
    known = similarity_matrix(labels)
    stimulus = np.arange(len(labels))
    follows = [
        upper_triangle_correlation(similarity_matrix(postprocess(level)), known, stimulus=stimulus)
        for level in (low, image)
    ]
    assert follows[1] > 0.4
    assert follows[0] < 0.2


def test_shipped_files_are_small_and_documented() -> None:
    weights = (FOLDER / "open_clip_model.safetensors").read_bytes()
    assert len(gzip.compress(weights)) < 5e6  # in the wheel
    assert json.loads((FOLDER / "open_clip_config.json").read_text())["model_cfg"] == MODEL_CONFIG
    readme = (FOLDER / "README.md").read_text()
    recipe = Recipe()
    facts = ("clipmused_bids.simulation.train_demo_clip", str(recipe.seed), str(recipe.seed + 1))
    assert all(fact in readme for fact in (*facts, load_clip("demo").weights_hash))


def test_training_is_repeatable_and_loads(tmp_path: Path) -> None:
    first, again = train(TINY), train(TINY)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {value.dtype for value in first.values()} == {torch.float16}
    table = first["token_embedding.weight"]
    said = (table != 0).any(dim=1)
    assert len(table) == 49408
    assert 30 < int(said.sum()) < 120
    write_clip(tmp_path / "clip", first)
    clip = load_clip("x", weights=str(tmp_path / "clip"))
    assert (clip.n_patches, clip.patch_width, clip.embedding_width) == (64, 128, 64)
    a, b = encode_texts(clip, ["a photo of a house", "a photo of a key"])
    assert np.abs(a - b).max() > 0


def test_renumbered_words_say_the_same_as_all_words(tmp_path: Path) -> None:
    """The stored table in open_clip's own tokenizer equals the small table that was trained."""
    kept: dict[str, torch.Tensor] = {}
    original = train_demo_clip._stored

    def keep(weights: dict[str, torch.Tensor], *, used: np.ndarray) -> dict[str, torch.Tensor]:
        kept.update(weights, used=torch.from_numpy(used))
        return original(weights, used=used)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_demo_clip, "_stored", keep)
        stored = train(TINY)
    table = stored["token_embedding.weight"]
    torch.testing.assert_close(
        table[kept["used"]].float(), kept["token_embedding.weight"], atol=1e-3, rtol=1e-2
    )
    assert int(kept["used"].max()) == 49407  # the end of a sentence stays the largest token


def test_command_writes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_demo_clip, "Recipe", lambda: TINY)
    threads = torch.get_num_threads()
    try:
        done = CliRunner().invoke(main, [str(tmp_path / "out"), "--threads", "1"])
    finally:
        torch.set_num_threads(threads)
        logger = logging.getLogger(train_demo_clip.__name__)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
