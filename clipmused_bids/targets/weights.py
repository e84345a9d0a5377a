"""Where a CLIP model's weights lie: a folder, a file, a cached download, or nowhere (then how to get them)."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from clipmused_bids.errors import DataError, MissingInputError, UsageError

_log = logging.getLogger(__name__)
_LOCAL_DIR = "local-dir:"
_HUB = "hf-hub:"
_CONFIG = "open_clip_config.json"
_PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class WeightSource:
    """What open_clip is asked for: a ``local-dir:`` name, or a model name with a ``.safetensors`` file.

    ``options`` are keyword arguments that belong to the weights (activation, scaling of images).
    """

    name: str
    file: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)


def find_weights(model: str, *, weights: str | None, offline: bool = True) -> WeightSource:
    """Find weights on this machine; open_clip downloads what is missing only where that is allowed.

    Parameters
    ----------
    model : str
        ``demo``, an open_clip model name, ``local-dir:FOLDER``, or ``hf-hub:ORGANISATION/NAME``.
    weights : str or None
        A folder in open_clip's local-dir form, a ``.safetensors`` file, or a pretrained tag; None: ``openai``.
    offline : bool
        Whether missing weights may not be downloaded.

    Raises
    ------
    UsageError
        If the model or the tag is unknown.
    MissingInputError
        If the weights are not here, or cannot be downloaded; the hint holds the commands that fetch them.
    DataError
        If they are there in a form that could run code when loaded.
    """
    if model == "demo" and weights is None:
        weights = str(files("clipmused_bids") / "data" / "demo_clip")
    if model.startswith(_LOCAL_DIR):
        return _from_folder(Path(model.removeprefix(_LOCAL_DIR)))
    if model.startswith(_HUB):
        return _from_hub(model.removeprefix(_HUB), offline=offline)
    if weights is not None and Path(weights).is_dir():
        return _from_folder(Path(weights))
    _check_name(model)
    if weights is not None and (Path(weights).suffix or "/" in weights):
        return _from_file(model, Path(weights))
    return _from_cache(model, tag=weights, offline=offline)


def _from_folder(folder: Path) -> WeightSource:
    if not (folder / _CONFIG).is_file():
        found = "holds none" if folder.is_dir() else "does not exist"
        raise MissingInputError(
            f"{folder}: expected a folder with {_CONFIG}; it {found}.",
            hint="--clip-weights FOLDER, in local-dir form",
        )
    names = sorted(path.name for path in folder.iterdir())
    safe = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if not any(name in _PREFERRED for name in safe) and (pickles or len(safe) > 1):
        _refuse(folder / (pickles or safe)[0])
    if not safe:
        raise MissingInputError(f"{folder}: no weights beside {_CONFIG}.", hint=f"expected {_PREFERRED[0]}")
    return WeightSource(f"{_LOCAL_DIR}{folder}")


def _from_file(model: str, file: Path) -> WeightSource:
    if not file.is_file():
        raise MissingInputError(f"--clip-weights {file}: no such file or folder.", hint=_fetch_tag(model))
    if file.suffix != ".safetensors":
        _refuse(file)
    if file.name in _PREFERRED and (file.parent / _CONFIG).is_file():
        return _from_folder(file.parent)
    _log.warning(
        "%s has no %s beside it: read with the activation and image scaling of %s", file, _CONFIG, model
    )
    return WeightSource(model, file=file)


def _from_cache(model: str, *, tag: str | None, offline: bool) -> WeightSource:
    import huggingface_hub
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag is None and "openai" not in tags:
        raise UsageError(f"--clip-model {model}: has no openai weights.", hint=_choose(tags))
    tag = tag or "openai"
    known = open_clip.get_pretrained_cfg(model, tag)
    if not known:
        raise UsageError(f"--clip-weights {tag}: neither a path nor weights of {model}.", hint=_choose(tags))
    repository = _repository(known)
    if repository:
        cached = huggingface_hub.try_to_load_from_cache(repository, _PREFERRED[0])
        if isinstance(cached, str):
            return WeightSource(model, file=Path(cached), options=_options(known))
    if offline:
        raise MissingInputError(
            f"CLIP {model}, weights {tag}: not on this machine, and nothing is downloaded.",
            hint=f"{_fetch_tag(model, tag=tag)}; or --no-offline",
        )
    return WeightSource(model, file=_downloaded(model, known, tag=tag), options=_options(known))


def _downloaded(model: str, known: dict[str, Any], *, tag: str) -> Path:
    import open_clip

    _log.info("Downloading CLIP %s, weights %s.", model, tag)
    with _download_of(f"CLIP {model}, weights {tag}", hint=_fetch_tag(model, tag=tag)):
        file = Path(open_clip.download_pretrained(known))
    if file.suffix != ".safetensors":
        _refuse(file)
    return file


def _from_hub(repository: str, *, offline: bool) -> WeightSource:
    import huggingface_hub

    wanted = (_CONFIG, _PREFERRED[0])
    cached = [huggingface_hub.try_to_load_from_cache(repository, name) for name in wanted]
    if all(isinstance(path, str) for path in cached):
        return _from_folder(Path(str(cached[0])).parent)
    if offline:
        raise MissingInputError(
            f"--clip-model {_HUB}{repository}: not on this machine, and nothing is downloaded.",
            hint=f"{_fetch(repository)}; or --no-offline",
        )
    _log.info("Downloading CLIP %s.", repository)
    with _download_of(f"--clip-model {_HUB}{repository}", hint=_fetch(repository)):
        paths = [Path(huggingface_hub.hf_hub_download(repository, name)) for name in wanted]
    return _from_folder(paths[0].parent)


@contextmanager
def _download_of(what: str, *, hint: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        raise MissingInputError(f"{what}: cannot be downloaded ({why}).", hint=hint) from error


def _options(known: dict[str, Any]) -> dict[str, Any]:
    return {
        "force_quick_gelu": bool(known.get("quick_gelu", False)),
        "image_mean": known.get("mean"),
        "image_std": known.get("std"),
        "image_interpolation": known.get("interpolation"),
        "image_resize_mode": known.get("resize_mode"),
    }


def _check_name(model: str) -> None:
    import open_clip

    names = open_clip.list_models()
    if model not in names:
        near = difflib.get_close_matches(model, names, n=3, cutoff=0.3)
        raise UsageError(
            f"--clip-model {model}: not a model of open_clip.",
            hint=f"did you mean {', '.join(near)}? Or demo",
        )


def _repository(known: dict[str, Any]) -> str:
    return str(known.get("hf_hub", "")).rpartition("/")[0]


def _fetch_tag(model: str, *, tag: str = "openai") -> str:
    import open_clip

    known = open_clip.get_pretrained_cfg(model, tag) or open_clip.get_pretrained_cfg("ViT-B-16", "openai")
    return _fetch(_repository(known))


def _fetch(repository: str) -> str:
    folder = f"clip-{repository.rpartition('/')[2]}"
    return (
        f"hf download {repository} {_CONFIG} {_PREFERRED[0]} --local-dir {folder} (anywhere with network; then "
        f"--clip-weights {folder}), or into this machine's cache: hf download {repository} {_PREFERRED[0]}"
    )


def _choose(tags: list[str]) -> str:
    return f"--clip-weights FOLDER, or one of {', '.join(tags[:8])}" if tags else "--clip-weights FOLDER"


def _refuse(file: Path) -> None:
    raise DataError(
        f"{file}: weights in this form are not read; expected open_clip's {_PREFERRED[0]}.",
        hint="pickled weights can run code when loaded; most models offer .safetensors, or convert once with "
        "open_clip.push_to_hf_hub.save_for_hf",
    )
