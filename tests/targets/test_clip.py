from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipmused_bids.errors import DataError, MissingInputError, UsageError
from clipmused_bids.targets.clip import ClipModel, encode_images, encode_texts, load_clip, weights_hash
from clipmused_bids.targets.weights import find_weights


@pytest.fixture(scope="module")
def clip(random_clip_dir: Path) -> ClipModel:
    return load_clip("anything", weights=str(random_clip_dir))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, size=(40, 50, 3), dtype=np.uint8)) for _ in range(5)]


def test_both_levels_equal_a_hook_on_the_first_block_and_encode_image(
    clip: ClipModel, pictures: list[Image.Image]
) -> None:
    low, high = encode_images(clip, pictures, batch_size=2)
    seen: list[torch.Tensor] = []
    block = clip.network.visual.transformer.resblocks[0]
    handle = block.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    pixels = torch.stack([clip.preprocess(picture) for picture in pictures])
    with torch.no_grad():
        expected_high = clip.network.encode_image(pixels)
    handle.remove()
    tokens = seen[0] if clip.network.visual.transformer.batch_first else seen[0].transpose(0, 1)
    expected_low = tokens[:, 1:].reshape(5, -1)  # token 0 is the class token
    assert low.shape == (5, 16 * 48)
    np.testing.assert_allclose(low, expected_low.numpy(), atol=1e-5)
    np.testing.assert_allclose(high, expected_high.numpy(), atol=1e-5)


def test_every_block_computes_once_for_both_levels(clip: ClipModel, pictures: list[Image.Image]) -> None:
    visual = clip.network.visual
    parts = [visual.conv1, *visual.transformer.resblocks, visual.ln_post]
    calls: list[torch.nn.Module] = []
    handles = [part.register_forward_hook(lambda module, args, out: calls.append(module)) for part in parts]
    encode_images(clip, pictures, batch_size=5)
    for handle in handles:
        handle.remove()
    assert [calls.count(part) for part in parts] == [1] * len(parts)


def test_shape_is_known_before_any_image(clip: ClipModel) -> None:
    low, high = encode_images(clip, [])
    assert (clip.n_patches, clip.patch_width, clip.embedding_width) == (16, 48, 24)
    assert low.shape == (0, 16 * 48)
    assert high.shape == (0, 24)


def test_pictures_of_any_mode_are_read_as_rgb(clip: ClipModel) -> None:
    grey = Image.fromarray(np.full((32, 32), 90, dtype=np.uint8))
    colour = Image.fromarray(np.full((32, 32, 3), 90, dtype=np.uint8))
    for a, b in zip(encode_images(clip, [grey]), encode_images(clip, [colour]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_texts_equal_open_clip_and_do_not_depend_on_batches(clip: ClipModel) -> None:
    texts = ["a photo of a house", "a photo of a fish", "a red ball"]
    with torch.no_grad():
        expected = clip.network.encode_text(clip.tokenize(texts)).numpy()
    np.testing.assert_allclose(encode_texts(clip, texts, batch_size=2), expected, atol=1e-5)
    assert encode_texts(clip, []).shape == (0, 24)


def test_features_do_not_depend_on_what_else_is_encoded() -> None:
    """To the last bit: jobs that meet the same stimulus among others must store the same feature."""
    demo = load_clip("demo", weights=None, device="cpu", offline=True)
    rng = np.random.default_rng(3)
    images = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(9)]
    texts = [f"a photo of {k} dogs" for k in range(9)]
    low, high = encode_images(demo, images, batch_size=8)
    sentences = encode_texts(demo, texts, batch_size=8)
    for n in (1, 2, 9):
        for found, expected in zip(encode_images(demo, images[:n], batch_size=8), (low, high), strict=True):
            np.testing.assert_array_equal(found, expected[:n])
        np.testing.assert_array_equal(encode_texts(demo, texts[:n], batch_size=8), sentences[:n])


def test_the_network_is_frozen_and_in_evaluation_mode(clip: ClipModel) -> None:
    assert not clip.network.training
    assert not any(parameter.requires_grad for parameter in clip.network.parameters())


def test_hash_follows_values_not_files(clip: ClipModel, random_clip_dir: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(random_clip_dir, tmp_path / "other")
    assert load_clip("anything", weights=str(copied)).weights_hash == clip.weights_hash
    changed = load_clip("anything", weights=str(copied)).network
    with torch.no_grad():
        changed.logit_scale += 1e-6
    assert weights_hash(changed) != clip.weights_hash
    assert len(clip.weights_hash) == 64


def test_local_dir_name_and_weights_folder_are_one(clip: ClipModel, random_clip_dir: Path) -> None:
    assert load_clip(f"local-dir:{random_clip_dir}").weights_hash == clip.weights_hash


@pytest.mark.parametrize("model", ["RN50", "RN50x4", "convnext_base_w", "coca_roberta-ViT-B-32-missing"])
def test_other_towers_and_unknown_models_are_refused(model: str, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    with pytest.raises(UsageError, match=model):
        load_clip(model, weights=str(weights))


def test_resnet_folder_is_refused_by_name(random_clip_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(random_clip_dir, tmp_path / "resnet")
    config = (folder / "open_clip_config.json").read_text().replace('"layers": 3', '"layers": [1, 1, 1, 1]')
    (folder / "open_clip_config.json").write_text(config)
    with pytest.raises(UsageError, match="ResNet"):
        load_clip("x", weights=str(folder))


def test_resnet_is_refused_before_its_weights_are_missed() -> None:
    with pytest.raises(UsageError, match="RN50"):
        load_clip("RN50")


def test_a_missing_local_dir_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="does not exist"):
        load_clip(f"local-dir:{tmp_path / 'nowhere'}")


def test_missing_weights_name_both_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    with pytest.raises(MissingInputError, match="ViT-B-16") as caught:
        find_weights("ViT-B-16", weights=None)
    hint = caught.value.hint or ""
    assert hint.count("hf download timm/vit_base_patch16_clip_224.openai") == 2
    assert "--clip-weights" in hint
    assert caught.value.exit_code == 66


def test_cached_weights_bring_their_activation_and_scaling(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []

    def cached(*args: str) -> str:
        asked.append(args)
        return str(tmp_path / "w.safetensors")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    source = find_weights("ViT-B-16", weights=None)
    assert asked == [("timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")]
    assert source.options["force_quick_gelu"] is True  # OpenAI's models were trained with it
    assert source.options["image_mean"] == (0.48145466, 0.4578275, 0.40821073)
    laion = find_weights("ViT-B-16", weights="laion2b_s34b_b88k")
    assert laion.options["force_quick_gelu"] is False


def test_unknown_tag_lists_known_ones() -> None:
    with pytest.raises(UsageError, match="no-such-tag") as caught:
        find_weights("ViT-B-16", weights="no-such-tag")
    assert "openai" in (caught.value.hint or "")


def test_a_hub_name_is_never_downloaded() -> None:
    with pytest.raises(MissingInputError, match="nothing is downloaded") as caught:
        load_clip("hf-hub:someone/some-clip")
    assert "hf download someone/some-clip" in (caught.value.hint or "")


def test_offline_no_downloader_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def downloaded(*args: object, **options: object) -> str:
        raise AssertionError("something was downloaded")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr("open_clip.download_pretrained", downloaded)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", downloaded)
    for model in ("ViT-B-16", "hf-hub:someone/some-clip"):
        with pytest.raises(MissingInputError, match="nothing is downloaded") as caught:
            find_weights(model, weights=None)
        assert "or --no-offline" in (caught.value.hint or "")


def test_missing_weights_are_downloaded_by_open_clip_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """open_clip's own code asks the hub; only the transfer itself is replaced."""
    asked: list[str] = []

    def transfer(*, repo_id: str, filename: str, **options: object) -> str:
        asked.append(f"{repo_id}/{filename}")
        path = tmp_path / filename
        path.write_bytes(b"weights")
        return str(path)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", transfer)
    source = find_weights("ViT-B-16", weights=None, offline=False)
    assert source.file == tmp_path / Path(asked[0]).name
    assert asked[0].startswith("timm/vit_base_patch16_clip_224.openai/")
    assert asked[0].endswith(".safetensors")
    assert source.options["force_quick_gelu"] is True
    # What is here is not downloaded again.
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda *args: str(tmp_path / "cached.safetensors")
    )
    assert find_weights("ViT-B-16", weights=None, offline=False).file == tmp_path / "cached.safetensors"
    assert len(asked) == 1


def test_a_download_in_a_form_that_could_run_code_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr(
        "open_clip.download_pretrained", lambda known: str(tmp_path / "open_clip_pytorch_model.bin")
    )
    with pytest.raises(DataError, match="weights in this form are not read"):
        find_weights("ViT-B-16", weights=None, offline=False)


@pytest.mark.parametrize("model", ["ViT-B-16", "hf-hub:someone/some-clip"])
def test_a_download_without_a_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    def unreachable(*args: object, **options: object) -> str:
        raise OSError("Name or service not known\nmore lines")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", unreachable)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(
        MissingInputError, match=f"{model}.*cannot be downloaded .*Name or service not known"
    ) as caught:
        find_weights(model, weights=None, offline=False)
    assert "hf download" in (caught.value.hint or "")
    assert "more lines" not in str(caught.value)


def test_a_hub_model_is_read_as_the_folder_it_was_downloaded_to(
    monkeypatch: pytest.MonkeyPatch, clip: ClipModel, random_clip_dir: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshot"

    def transfer(repository: str, name: str) -> str:
        assert repository == "someone/some-clip"
        snapshot.mkdir(exist_ok=True)
        shutil.copy(random_clip_dir / name, snapshot / name)
        return str(snapshot / name)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", transfer)
    assert load_clip("hf-hub:someone/some-clip", offline=False).weights_hash == clip.weights_hash
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda repository, name: str(snapshot / name)
    )
    assert load_clip("hf-hub:someone/some-clip").weights_hash == clip.weights_hash


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "model.pth"])
def test_pickles_are_refused_as_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match=name) as caught:
        load_clip("ViT-B-16", weights=str(tmp_path / name))
    assert "safetensors" in str(caught.value)


@pytest.mark.parametrize("safe", [None, "mine.safetensors"])
def test_pickles_are_refused_in_a_folder(safe: str | None, random_clip_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(random_clip_dir, tmp_path / "folder")
    original = folder / "open_clip_model.safetensors"
    if safe is None:
        original.unlink()
    else:
        original.rename(folder / safe)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match=r"pytorch_model\.bin"):
        load_clip("x", weights=str(folder))


def test_a_folder_without_weights_or_configuration_is_missing_input(
    random_clip_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(random_clip_dir, tmp_path / "folder")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(MissingInputError, match="no weights"):
        load_clip("x", weights=str(folder))
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(MissingInputError, match=r"open_clip_config\.json"):
        load_clip("x", weights=str(folder))
    with pytest.raises(MissingInputError, match="no such file"):
        load_clip("ViT-B-16", weights=str(tmp_path / "none.safetensors"))


def test_damaged_weights_are_bad_data(random_clip_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(random_clip_dir, tmp_path / "damaged")
    file = folder / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be loaded"):
        load_clip("x", weights=str(folder))


def test_a_file_beside_its_configuration_is_read_with_it(clip: ClipModel, random_clip_dir: Path) -> None:
    file = random_clip_dir / "open_clip_model.safetensors"
    assert load_clip("ViT-B-16", weights=str(file)).weights_hash == clip.weights_hash


def test_a_lone_file_is_read_as_the_named_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        source = find_weights("ViT-B-32-quickgelu", weights=str(file))
    assert (source.name, source.file) == ("ViT-B-32-quickgelu", file)
    assert "activation" in caplog.text


def test_a_vision_transformer_from_timm_works_too(tmp_path: Path, pictures: list[Image.Image]) -> None:
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "timm_proj": "linear", "image_size": 224},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = open_clip.model.CustomTextCLIP(**json.loads(json.dumps(config)))
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "open_clip_model.safetensors"
    )
    content = {"model_cfg": config | {"custom_text": True}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    clip = load_clip("x", weights=str(tmp_path))
    trunk, calls = clip.network.visual.trunk, []
    handles = [
        block.register_forward_hook(lambda module, args, out: calls.append(module)) for block in trunk.blocks
    ]
    low, high = encode_images(clip, pictures[:2])
    for handle in handles:
        handle.remove()
    assert [calls.count(block) for block in trunk.blocks] == [1] * len(trunk.blocks)
    seen: list[torch.Tensor] = []
    clip.network.visual.trunk.blocks[0].register_forward_hook(
        lambda module, args, out: seen.append(out.detach())
    )
    with torch.no_grad():
        expected = clip.network.encode_image(torch.stack([clip.preprocess(p) for p in pictures[:2]]))
    np.testing.assert_allclose(low, seen[0][:, 1:].reshape(2, -1).numpy(), atol=1e-5)
    np.testing.assert_allclose(high, expected.numpy(), atol=1e-5)
