"""What voxels would say without noise: image energy in early areas, meaning in late ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray
from clipmused_bids.simulation.anatomy import Anatomy, smooth_fields
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.scenes import CATEGORIES, PLACES, Scene, label_matrix

_KINDS = {
    "living": ("fish", "flower", "tree"),
    "in the sky": ("moon", "star", "kite"),
    "handled": ("cup", "key", "ball"),
    "built": ("house", "boat", "ladder"),
}
_WARM = ("red", "orange", "yellow", "brown")
_N_CELLS = 16
_N_HIDDEN = 12
# Distance in mm over which tuning changes along the cortex.
_TUNING_MM = 12.0
# Percent signal change: mean evoked amplitude, and the typical spread over stimuli.
MEAN_AMPLITUDE, AMPLITUDE_SD = 0.8, 0.5


@dataclass(frozen=True)
class SceneBank:
    """Scenes and what drives voxels in them; each feature has mean 0 over the bank.

    Parameters
    ----------
    scenes : tuple of Scene
    images : ndarray of uint8, shape (n, 64, 64, 3)
    labels : ndarray of int, shape (n, C)
    energy : ndarray of shape (n, 4 * 16 * 16)
        Local contrast in four orientations.
    meaning : ndarray of shape (n, K)
        Factors that captions tell: objects, kinds, place, number, warmth of colours.
    hidden : ndarray of shape (n, 12)
        Factors that neither picture nor captions tell.
    """

    scenes: tuple[Scene, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    energy: FloatArray
    meaning: FloatArray
    hidden: FloatArray


def make_bank(scenes: Sequence[Scene], images: NDArray[np.uint8], *, seed: int) -> SceneBank:
    """Describe rendered scenes by the features that drive voxels."""
    rng = np.random.default_rng([seed, 30])
    energy = image_energy(images)
    return SceneBank(
        scenes=tuple(scenes),
        images=images,
        labels=label_matrix(scenes),
        energy=energy - energy.mean(axis=0),
        meaning=semantic_factors(scenes),
        hidden=rng.normal(size=(len(scenes), _N_HIDDEN)),
    )


def image_energy(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Root of the local contrast energy of pictures in four orientations.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, size, size, 3)
        ``size`` is a multiple of 16.

    Returns
    -------
    ndarray of shape (n, 4 * 16 * 16)
        Orientation, row, column; differences of grey between neighbours, squared, averaged over cells of a 16 x 16
        raster, square root.
    """
    grey = np.pad(images.mean(axis=3) / 255, ((0, 0), (0, 1), (0, 1)), mode="edge")
    here, right, below, across = grey[:, :-1, :-1], grey[:, :-1, 1:], grey[:, 1:, :-1], grey[:, 1:, 1:]
    squares = np.stack([right - here, below - here, across - here, right - below], axis=1) ** 2
    n, channels, size, _ = squares.shape
    cell = size // _N_CELLS
    pooled = squares.reshape(n, channels, _N_CELLS, cell, _N_CELLS, cell).mean(axis=(3, 5))
    energy: NDArray[np.float64] = np.sqrt(pooled).reshape(n, -1)
    return energy


def semantic_factors(scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """Factors of meaning, standardised over the scenes and weighted: (n, K).

    They are computed from the scenes' descriptions, never with a CLIP model.
    """
    objects = label_matrix(scenes).astype(np.float64)
    kinds = np.stack(
        [objects[:, [CATEGORIES.index(name) for name in members]].max(axis=1) for members in _KINDS.values()],
        axis=1,
    )
    place = np.eye(len(PLACES))[[scene.place for scene in scenes]]
    count = objects.sum(axis=1, keepdims=True)
    warm = np.array([[np.mean([item.colour in _WARM for item in scene.objects])] for scene in scenes])
    blocks = ((objects, 1.0), (kinds, 0.5), (place, 0.4), (count, 0.4), (warm, 0.4))
    return np.concatenate([weight * _standardised(block) for block, weight in blocks], axis=1)


@dataclass(frozen=True)
class Brain:
    """One participant: where voxels are, and what each says to every scene of the bank.

    Parameters
    ----------
    anatomy : Anatomy
    amplitude : ndarray of shape (n_bank, n_voxels)
        Evoked percent signal change of one trial, without noise; 0 outside all regions.
    """

    anatomy: Anatomy
    amplitude: NDArray[np.float64]


def make_brain(
    bank: SceneBank, anatomy: Anatomy, parameters: SimulationParameters, *, participant: int
) -> Brain:
    """Give every voxel its tuning, and compute what it says.

    A weight is sqrt(1 - t) g(place) + sqrt(t) g_n(place): g is the same random function for all participants, g_n the
    participant's own, t the topographic difference. Early voxels pool contrast energy around a receptive field; late
    voxels add sqrt(a) of what captions tell and sqrt(1 - a) of what they do not, a the alignment.
    """
    response = np.zeros((len(bank.scenes), len(anatomy.place)))
    early, late = anatomy.early, anatomy.late
    fields = partial(_fields, anatomy, parameters, participant=participant)
    response[:, early] = _standardised(bank.energy @ _receptive_fields(fields(n_fields=6, kind=0)[early]).T)
    told = _standardised(bank.meaning @ fields(n_fields=bank.meaning.shape[1], kind=1)[late].T)
    untold = _standardised(bank.hidden @ fields(n_fields=_N_HIDDEN, kind=2)[late].T)
    a = parameters.clip_alignment
    response[:, late] = np.sqrt(a) * told + np.sqrt(1 - a) * untold
    # Voxels differ in how strongly they respond, as real ones do.
    gain = np.exp(0.5 * fields(n_fields=1, kind=3)[:, 0])
    responsive = anatomy.region >= 0
    return Brain(anatomy, gain * (MEAN_AMPLITUDE * responsive + AMPLITUDE_SD * response))


def draw_amplitudes(
    brain: Brain, scene: NDArray[np.int64], parameters: SimulationParameters, *, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Amplitudes of single trials, (n_trials, n_voxels): those of their scenes, and what varies between trials.

    The variation has the covariance that the amplitudes have over the bank, times ``variability``.
    """
    spread = brain.amplitude - brain.amplitude.mean(axis=0)
    mixture = rng.normal(size=(len(scene), len(spread))) / np.sqrt(len(spread))
    amplitudes: NDArray[np.float64] = (
        brain.amplitude[scene] + np.sqrt(parameters.variability) * mixture @ spread
    )
    return amplitudes


def _fields(
    anatomy: Anatomy, parameters: SimulationParameters, *, participant: int, n_fields: int, kind: int
) -> NDArray[np.float64]:
    """Random functions of place, partly common to all participants, at the voxels: (n_voxels, n_fields)."""
    seed, t = parameters.seed, parameters.topographic_difference
    common, own = (
        smooth_fields(anatomy.place, n_fields=n_fields, length=_TUNING_MM, rng=np.random.default_rng(key))
        for key in ([seed, 31, kind], [seed, 32, kind, participant])
    )
    mixed: NDArray[np.float64] = np.sqrt(1 - t) * common + np.sqrt(t) * own
    return mixed


def _receptive_fields(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights over orientation, row and column (n_voxels, 4 * 16 * 16) from six fields: centre and tuning."""
    from scipy.special import ndtr

    centre = ndtr(fields[:, :2])
    tuning = np.exp(fields[:, 2:])
    cells = (np.arange(_N_CELLS) + 0.5) / _N_CELLS
    rows = np.exp(-0.5 * ((cells[None] - centre[:, :1]) / 0.12) ** 2)
    columns = np.exp(-0.5 * ((cells[None] - centre[:, 1:]) / 0.12) ** 2)
    weights: NDArray[np.float64] = np.einsum("vo,vr,vc->vorc", tuning, rows, columns)
    return weights.reshape(len(fields), 4 * _N_CELLS**2)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=0)
    sd = centred.std(axis=0)
    standardised: NDArray[np.float64] = centred / np.where(sd > 0, sd, 1.0)
    return standardised
