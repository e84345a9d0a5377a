"""CLIP-MUSED behind the interface of all methods."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from clipmused_bids.config import Hyperparameters, as_tables, build_hyperparameters
from clipmused_bids.decoder.cost import count_parameters
from clipmused_bids.decoder.model import ClipMused
from clipmused_bids.methods.architecture import (
    Architecture,
    build_decoder,
    choose_architecture,
)
from clipmused_bids.methods.base import (
    Report,
    Signature,
    Tensors,
    joined_trials,
    require_finite_trials,
    require_trials,
)
from clipmused_bids.methods.starts import start_bias, start_maps, start_readout
from clipmused_bids.methods.template import Template, make_template
from clipmused_bids.records import FloatArray, History, TrialData
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.monitor import decode_logits
from clipmused_bids.training.state import choose_device, load_tensors, seeded, tensors_of

logger = logging.getLogger(__name__)


class ClipMusedMethod:
    """CLIP-guided multi-subject decoder, trained once or from several seeds that are averaged.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        The tables ``model``, ``training`` and (for alignments by ridge) ``linear`` are read.
    seed : int
        Member m of the average is trained with ``seed + m``.
    device : str
        ``cpu``, ``cuda`` or ``auto``.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994.
    """

    def __init__(self, *, hyperparameters: Hyperparameters, seed: int, device: str) -> None:
        self.hyperparameters = hyperparameters
        self.seed = seed
        self.device = choose_device(device)
        self._signature: Signature | None = None
        self._architecture: Architecture | None = None
        self._members: list[ClipMused] = []
        self._alignment = ""
        self._templates: list[Template] = []
        self._adaptation: dict[str, Any] | None = None

    @property
    def members(self) -> tuple[ClipMused, ...]:
        """The trained decoders whose predictions are averaged."""
        return tuple(self._members)

    @property
    def templates(self) -> tuple[Template, ...]:
        """What links a new participant to each member; empty where maps are shared, or nothing was stored."""
        return tuple(self._templates)

    @property
    def signature(self) -> Signature:
        """What data the decoder was fitted to."""
        assert self._signature is not None, "fit or restore first"
        return self._signature

    @property
    def architecture(self) -> Architecture:
        """What fixes the decoder's tensors."""
        assert self._architecture is not None, "fit or restore first"
        return self._architecture

    @property
    def adaptation(self) -> Mapping[str, Any] | None:
        """How the decoder was fitted to a new participant of another one; None where it was trained."""
        return self._adaptation

    @classmethod
    def adapted(
        cls,
        base: ClipMusedMethod,
        members: Sequence[ClipMused],
        *,
        signature: Signature,
        architecture: Architecture,
        adaptation: Mapping[str, Any],
    ) -> ClipMusedMethod:
        """Put together the decoder of a new participant; see ``methods.adaptation``."""
        method = cls(hyperparameters=base.hyperparameters, seed=base.seed, device=str(base.device))
        method._signature, method._architecture = signature, architecture
        method._alignment = str(adaptation["alignment"])
        method._members = list(members)
        method._adaptation = dict(adaptation)
        return method

    def fit(self, train: TrialData, validation: TrialData, *, report: Report | None = None) -> History:
        """Train; the validation trials choose the epoch.

        Returns
        -------
        History
            Columns of ``Trainer.run`` and ``member``; ``best_epoch`` is the row of the first member's epoch.
        """
        require_trials(train)
        require_finite_trials(train)
        self._signature = Signature.of(train)
        self._architecture = choose_architecture(train, self.hyperparameters.model)
        self._members, self._templates = [], []
        histories = []
        for m in range(self.hyperparameters.training.n_seeds):
            model, history = self._train(
                train, validation, seed=self.seed + m, report=_with_member(report, member=m + 1)
            )
            fitted_to = train
            if self.hyperparameters.fit_on == "train+validation":
                model, history = self._train_again(train, validation, history, seed=self.seed + m)
                fitted_to = joined_trials(train, validation)
            histories.append(history)
            self._members.append(model)
            self._keep_template(model, fitted_to)
        return _joined(histories)

    def _train(
        self,
        train: TrialData,
        validation: TrialData,
        *,
        seed: int,
        report: Report | None = None,
        n_epochs: int | None = None,
    ) -> tuple[ClipMused, History]:
        assert self._architecture is not None
        model_options, options = self.hyperparameters.model, self.hyperparameters.training
        alphas = self.hyperparameters.linear.alphas
        with seeded(seed, device=self.device):
            model = build_decoder(self._architecture, model_options, n_participants=len(train.participants))
        self._alignment = start_maps(
            model,
            train,
            regions=self._architecture.regions,
            options=model_options,
            alphas=alphas,
            seed=seed,
        )
        logger.info("patches: linear maps start from: %s.", self._alignment)
        start_bias(model, train)
        scores = start_readout(model, train, alphas=alphas)
        trainer = Trainer(
            model, train, validation, options=options, seed=seed, device=self.device, scores=scores
        )
        return model, trainer.run(report, n_epochs=n_epochs)

    def _train_again(
        self, train: TrialData, validation: TrialData, history: History, *, seed: int
    ) -> tuple[ClipMused, History]:
        """Train on all trials for as many epochs as the validation trials chose; their history is kept."""
        n_epochs = history.best_epoch
        nothing = validation.subset(np.empty(0, dtype=np.int64))
        model, _ = self._train(joined_trials(train, validation), nothing, seed=seed, n_epochs=n_epochs)
        note = f"{history.stopped}; trained again on train+validation for {n_epochs} epochs"
        return model, replace(history, stopped=note)

    def _keep_template(self, model: ClipMused, fitted_to: TrialData) -> None:
        """Describe the shared features, for new participants, where each participant has maps of his own."""
        if self.architecture.kind in {"own-roi", "aligned"}:
            template = make_template(
                model,
                fitted_to,
                minimum=self.hyperparameters.model.n_shared,
                alphas=self.hyperparameters.linear.alphas,
                device=self.device,
            )
            self._templates.append(template)

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Return the sigmoid of the logits, mean over members, (n_trials, C)."""
        assert self._signature is not None, "fit or restore first"
        self._signature.check(data)
        known = list(self._signature.masks)
        reader = TrialReader(data, device=self.device, token=[known.index(p) for p in data.participants])
        total = np.zeros(data.labels.shape)
        for model in self._members:
            total += expit(decode_logits(model.to(self.device).eval(), reader))
        return np.asarray(total / len(self._members))

    def state(self) -> Tensors:
        """Return the weights of each member, and the voxels and regions they were made for."""
        assert self._architecture is not None, "fit or restore first"
        tensors = self._architecture.tensors()
        for m, model in enumerate(self._members):
            tensors |= {f"member.{m}.{name}": value for name, value in tensors_of(model).items()}
        for m, template in enumerate(self._templates):
            tensors |= template.tensors(f"template.{m}.")
        return tensors

    def config(self) -> dict[str, Any]:
        """Return hyper-parameters, architecture, labels, participants and masks."""
        assert self._signature is not None, "fit or restore first"
        assert self._architecture is not None
        adaptation = {} if self._adaptation is None else {"adaptation": self._adaptation}
        return {
            **adaptation,
            "signature": self._signature.to_config(),
            "architecture": self._architecture.to_config(),
            "hyperparameters": as_tables(self.hyperparameters),
            "alignment": self._alignment,
            "seed": self.seed,
        }

    def summary(self) -> dict[str, Any]:
        """Return counts of parameters of one member, and how the participants' maps were started."""
        assert self._signature is not None, "fit or restore first"
        shared, own = count_parameters(self._members[0])
        return {
            "shared": shared,
            "per_participant": dict(zip(self._signature.masks, own, strict=True)),
            "members": len(self._members),
            "patches": self._members[0].patches.n_patches,
            "alignment": self._alignment,
        }

    @classmethod
    def restore(
        cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any], *, device: str = "cpu"
    ) -> ClipMusedMethod:
        """Build from what ``state`` and ``config`` gave."""
        hyperparameters = build_hyperparameters(config["hyperparameters"])
        method = cls(hyperparameters=hyperparameters, seed=int(config["seed"]), device=device)
        method._signature = Signature.from_config(config["signature"])
        method._architecture = Architecture.from_config(tensors, config["architecture"])
        method._alignment = str(config["alignment"])
        for m in range(hyperparameters.training.n_seeds):
            prefix = f"member.{m}."
            with seeded(0, device=method.device):
                model = build_decoder(
                    method._architecture, hyperparameters.model, n_participants=len(method._signature.masks)
                )
            load_tensors(
                model,
                {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)},
            )
            method._members.append(model)
            template = Template.from_tensors(tensors, f"template.{m}.")
            method._templates += [] if template is None else [template]
        method._adaptation = config.get("adaptation")
        return method


def _with_member(report: Report | None, *, member: int) -> Report | None:
    if report is None:
        return None
    return lambda row: report({"member": float(member)} | row)


def _joined(histories: list[History]) -> History:
    """One history of all members."""
    columns: dict[str, tuple[float, ...]] = {
        "member": tuple(
            float(m + 1) for m, one in enumerate(histories) for _ in next(iter(one.columns.values()))
        )
    }
    for name in histories[0].columns:
        columns[name] = tuple(value for one in histories for value in one.columns[name])
    stopped = histories[0].stopped
    if len(histories) > 1:
        stopped = "; ".join(
            f"member {m + 1}: epoch {one.best_epoch}, {one.stopped}" for m, one in enumerate(histories)
        )
    return History(columns=columns, best_epoch=histories[0].best_epoch, stopped=stopped)
