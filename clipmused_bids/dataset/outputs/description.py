"""The files that make the output folder a BIDS derivative: what it is, made by what, from what."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clipmused_bids import __version__
from clipmused_bids.dataset.files.atomic import make_folder, write_bytes, writing
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import write_json, write_text, write_tsv
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.runs.participants import list_participants, participants_in_table
from clipmused_bids.errors import CannotCreateError, ClipMusedError, MissingInputError

logger = logging.getLogger(__name__)

NAME = "clipmused-bids"
CODE_URL = "https://github.com/clipmused-bids/clipmused-bids"
BIDS_VERSION = "1.10.0"

# The official validator knows these suffixes and files not yet; a trailing slash would switch a pattern off.
IGNORED = (
    "*.html", "figures", "models", "group_*", "split.*", "*_predictions.*", "*_metrics.*", "*_responses.*",
    "*_embeddings.*", "*_statmap.*", "*_trials.*", "*_tokens.*",
)  # fmt: skip

_RESPONSE_KINDS = {
    "desc-lss": "Response to each trial by least squares - separate: one model for each trial",
    "desc-lsa": "Response to each trial by least squares - all: one model with a regressor for each trial",
    "desc-window": "Response to each trial as the mean signal in a window after its onset",
    "desc-betas": "Response to each trial as estimated by other software and read from a derivative",
    "desc-brain": "Voxels that exported responses were estimated in",
}
_MAPS = {
    "desc-noiseceiling": "Share of the variance of a single response that the stimulus explains, by repeats",
    "desc-tsnr": "Temporal signal-to-noise ratio of the series that responses were estimated from",
    "desc-reliability": "Split-half reliability of the mean response over the repeats of a stimulus",
}

_SOURCES = Path("logs", "sources")

_README = """\
# clipmused-bids derivatives

Decoding of what people saw from their fMRI. These files were written by clipmused-bids; every data file has
a JSON file of the same name beside it that says what it holds, how it was made and from what (`Sources`, as
BIDS URIs; the dataset names in them are resolved by `DatasetLinks` in `dataset_description.json`).

| file | content |
|---|---|
| `sub-*/**/func/*_responses.safetensors` | one brain response per trial and voxel; `.tsv`: the trials |
| `sub-*/**/func/*_statmap.nii.gz` | the same as images (`--write-betas`); `_trials.tsv`: the trial of each volume |
| `sub-*/**/func/*_predictions.tsv` | probability of each label for each trial |
| `sub-*/**/func/*_metrics.tsv`, `group_desc-*_metrics.tsv` | scores with what knowing nothing would score |
| `sub-*/func/*_tokens.safetensors` | what the decoder's tokens become for each test stimulus |
| `sub-*/func/*_desc-noiseceiling_statmap.nii.gz` | what a stimulus can explain of each voxel's response |
| `sub-*/func/*_desc-tsnr_statmap.nii.gz` | temporal signal-to-noise ratio of each voxel, median over runs |
| `sub-*.html`, `group.html` | reports to look at: each participant, and all of them |
| `sub-*/figures/` | figures of the reports as files |
| `sub-*/func/*_desc-reliability_statmap.nii.gz` | how alike responses to the same stimulus are in each voxel |
| `split.tsv` | which trials train, validate and test, and why |
| `stimuli/` | catalogue of the stimuli and their CLIP features, stored by content |
| `models/*/` | decoders: weights, configuration, training curves and a model card |
| `logs/CITATION.md`, `logs/CITATION.bib` | methods text with this run's numbers, and the works to cite |
| `logs/*/` | configuration and log of each run of the program |

Files ending in `.safetensors` hold numbers only; they open with the safetensors library of any language.
Brain responses and decoders fitted to them can identify people: share them only as the participants'
consent allows.
"""


def prepare_tree(
    root: Path, *, bids_dir: Path, derivatives: Mapping[str, Path], environ: Mapping[str, str]
) -> OutputTree:
    """Make an output folder a BIDS derivative: description, README, .bidsignore, participants and descriptions.

    Any number of processes may do this at once. Datasets that earlier or other runs linked stay linked: each
    link is a file of its own in ``logs/sources``, and the description is made of all of them.

    Parameters
    ----------
    root : Path
        OUTPUT_DIR; made where it does not exist.
    bids_dir : Path
        Raw dataset; only read. Its name in BIDS URIs is ``raw``.
    derivatives : mapping of str to Path
        Derivatives that are read, by their names in BIDS URIs.
    environ : mapping
        Environment variables; they say which container image the program runs in.

    Raises
    ------
    CannotCreateError
        If the folder cannot be written to or holds a dataset that is not ours.
    OutputWriteError
        If writing failed on the way.
    """
    tree = OutputTree(root)
    make_folder(root)
    refuse_foreign(root)
    _write_description(root, links={"raw": bids_dir, **derivatives}, container=container_of(environ))
    write_text(root / "README.md", _README)
    _write_bidsignore(root / ".bidsignore")
    _copy_participants(bids_dir, root)
    write_descriptions(tree)
    return tree


def write_descriptions(tree: OutputTree) -> None:
    """Write ``descriptions.tsv``: what each ``desc-`` label in the tree stands for.

    The rows follow from the folders that exist (``models/*``, ``stimuli/desc-*_embeddings``), and are
    looked up again after writing until they agree. So whichever of several processes writes last has seen
    the folders of all others, and no row is lost.
    """
    rows = _descriptions(tree)
    while True:
        write_tsv(
            tree.root / "descriptions.tsv", {"desc_id": tuple(rows), "description": tuple(rows.values())}
        )
        now = _descriptions(tree)
        if now == rows:
            return
        rows = now


def container_of(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Name the container image from environment variables; None outside of a container.

    ``CLIPMUSED_IMAGE`` (set in our image) is its tag; Apptainer and Singularity name the image file, of
    which only the last part is kept: paths of the host stay on the host.
    """
    file = environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER")
    image = environ.get("CLIPMUSED_IMAGE")
    if file:
        return {"Type": "singularity", "Tag": image or Path(file).name}
    if image:
        return {"Type": environ.get("container") or "docker", "Tag": image}
    return None


def _write_description(root: Path, *, links: Mapping[str, Path], container: Mapping[str, str] | None) -> None:
    """Write the description, and again until no link has come meanwhile, as :func:`write_descriptions` does."""
    descriptions = {name: _description_of(path) for name, path in links.items()}
    generator: dict[str, Any] = {"Name": NAME, "Version": __version__, "CodeURL": CODE_URL}
    if container:
        generator["Container"] = dict(container)
    for name, path in links.items():
        source = {"Name": name, "Link": Path(relpath(path, root)).as_posix()}
        write_json(
            root / _SOURCES / f"{quote(name, safe='')}.json",
            source | {"Source": _source(name, descriptions[name])},
        )
    head = {
        "Name": f"{NAME} outputs for {descriptions['raw'].get('Name') or 'an unnamed dataset'}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generator],
    }
    written: dict[str, Any] = {}
    while written != (now := {**head, **_linked(root)}):
        write_json(root / "dataset_description.json", now)
        written = now


def _linked(root: Path) -> dict[str, Any]:
    """Source datasets and links of all runs so far: the raw dataset first, then by name."""
    found = [read_json(path) for path in (root / _SOURCES).glob("*.json") if not path.name.startswith(".")]
    found.sort(key=lambda one: (one["Name"] != "raw", one["Name"]))
    links = {one["Name"]: one["Link"] for one in found}
    known = {one["Source"]["URL"] for one in found} | {f"bids:{name}:" for name in links}
    before = _description_of(root)
    # Of an earlier version, which kept links in the description alone.
    kept = [entry for entry in before.get("SourceDatasets", []) if entry.get("URL") not in known]
    return {
        "SourceDatasets": [*(one["Source"] for one in found), *kept],
        "DatasetLinks": {
            **links,
            **{k: v for k, v in before.get("DatasetLinks", {}).items() if k not in links},
        },
    }


def _source(name: str, description: Mapping[str, Any]) -> dict[str, str]:
    doi = re.sub(r"^(doi:|https?://(dx\.)?doi\.org/)", "", str(description.get("DatasetDOI") or "").strip())
    if not doi.startswith("10."):
        return {"URL": f"bids:{name}:"}
    return {"URL": f"https://doi.org/{doi}", "DOI": f"https://doi.org/{doi}"}


def _description_of(dataset: Path) -> dict[str, Any]:
    try:
        return read_json(dataset / "dataset_description.json")
    except MissingInputError:
        return {}
    except ClipMusedError as error:
        logger.warning("%s It is not used.", error)
        return {}


def refuse_foreign(root: Path) -> None:
    """Refuse an output folder that holds a dataset of other software.

    Raises
    ------
    CannotCreateError
        Names the dataset and what made it.
    """
    description = _description_of(root)
    generators = description.get("GeneratedBy")
    names = {str(entry.get("Name")) for entry in generators} if isinstance(generators, list) else set()
    if description and NAME not in names:
        raise CannotCreateError(
            f"{root}: already a dataset of something else ({description.get('Name', 'unnamed')}; "
            f"made by {', '.join(sorted(names)) or 'nobody named'}).",
            hint="choose a folder of its own as OUTPUT_DIR, e.g. BIDS_DIR/derivatives/clipmused",
        )


def _write_bidsignore(path: Path) -> None:
    with writing(path):
        present = path.read_text("utf-8").splitlines() if path.exists() else []
    own_lines = [line for line in present if line not in IGNORED]
    write_text(path, "".join(f"{line}\n" for line in [*IGNORED, *own_lines]))


def _copy_participants(bids_dir: Path, root: Path) -> None:
    source = bids_dir / "participants.tsv"
    if not source.is_file():
        return
    unlisted = [
        label for label in list_participants(bids_dir) if label not in participants_in_table(bids_dir)
    ]
    if unlisted:
        # Such a table makes any dataset invalid that holds the participants it lacks.
        logger.warning("%s lacks %s; it is not copied to the outputs.", source, ", ".join(unlisted))
        return
    write_bytes(root / "participants.tsv", source.read_bytes())


def _descriptions(tree: OutputTree) -> dict[str, str]:
    rows = {**_RESPONSE_KINDS, **_MAPS}
    for label in _folder_names(tree.root.glob("models/*")):
        rows[f"desc-{label}"] = f"Predictions and scores of the decoder in models/{label}"
    for name in _folder_names(tree.root.glob("stimuli/desc-*_embeddings")):
        label = name.removeprefix("desc-").removesuffix("_embeddings")
        rows[f"desc-{label}"] = f"Features of the stimuli by the CLIP model {label}"
    return rows


def _folder_names(folders: Iterable[Path]) -> list[str]:
    return sorted(path.name for path in folders if path.is_dir() and not path.name.startswith("."))
