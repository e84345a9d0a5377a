"""Networks behind the interface of all methods: CLIP-MUSED and its deep rivals."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from clipmused_bids.config import Hyperparameters, LabelLoss, ModelOptions, as_tables, build_hyperparameters
from clipmused_bids.decoder.cost import count_parameters
from clipmused_bids.decoder.network import Network
from clipmused_bids.long_work import each_of
from clipmused_bids.methods.architecture import (
    Architecture,
    build_decoder,
    choose_architecture,
)
from clipmused_bids.methods.base import (
    Signature,
    Tensors,
    joined_trials,
    require_finite_trials,
    require_trials,
)
from clipmused_bids.methods.context import ALONE, FitContext
from clipmused_bids.methods.fitted_network import FittedNetwork
from clipmused_bids.methods.member_histories import joined_histories
from clipmused_bids.methods.network_kinds import NetworkKind
from clipmused_bids.methods.readouts import start_bias, start_readout
from clipmused_bids.methods.shared_fit import SharedFit
from clipmused_bids.methods.starts import start_maps
from clipmused_bids.methods.template import Template, make_template
from clipmused_bids.records import FloatArray, History, TrialData
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.checkpoint import Snapshot
from clipmused_bids.training.health import token_states, warn_of
from clipmused_bids.training.label_kind import label_loss_kind
from clipmused_bids.training.monitor import decode_logits, log_odds
from clipmused_bids.training.state import choose_device, load_tensors, seeded, tensors_of

logger = logging.getLogger(__name__)


class NetworkMethod:
    """A deep decoder of all participants, trained once or from several seeds that are averaged.

    All kinds have one architecture, one trainer and one set of options, so that they differ in what they are and
    not in how they were tuned. In native space, where voxel k of two people is not the same place, every kind that
    reads several participants has each participant's own linear map: subject information that cannot be avoided
    there. ``summary`` and the log say so.

    Parameters
    ----------
    kind : NetworkKind
        Which network, with which tokens, guided or not.
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

    def __init__(
        self, kind: NetworkKind, *, hyperparameters: Hyperparameters, seed: int, device: str
    ) -> None:
        self.kind = kind
        self.hyperparameters = hyperparameters
        self.seed = seed
        self.device = choose_device(device)
        self._signature: Signature | None = None
        self._architecture: Architecture | None = None
        self._members: list[Network] = []
        self._alignment = ""
        self._label_loss: LabelLoss = "binary"
        self._tokens: list[dict[str, Any]] = []
        self._templates: list[Template] = []
        self._adaptation: Mapping[str, Any] | None = None

    def fitted(self) -> FittedNetwork:
        """Return what was fitted."""
        assert self._signature is not None, "fit or restore first"
        assert self._architecture is not None
        return FittedNetwork(
            members=tuple(self._members),
            signature=self._signature,
            architecture=self._architecture,
            alignment=self._alignment,
            templates=tuple(self._templates),
            label_loss=self._label_loss,
            adaptation=self._adaptation,
        )

    def with_fitted(self, fitted: FittedNetwork) -> NetworkMethod:
        """Return a method of the same kind and options, which consists of these parts."""
        options = self.hyperparameters
        method = NetworkMethod(self.kind, hyperparameters=options, seed=self.seed, device=str(self.device))
        method._signature, method._architecture = fitted.signature, fitted.architecture
        method._members, method._templates = list(fitted.members), list(fitted.templates)
        method._alignment, method._adaptation = fitted.alignment, fitted.adaptation
        method._label_loss = fitted.label_loss
        return method

    @property
    def _model_options(self) -> ModelOptions:
        return self.kind.model_options(self.hyperparameters.model)

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Train; the validation trials choose the epoch.

        Returns
        -------
        History
            Columns of ``Trainer.run`` and ``member``; ``best_epoch`` is the row of the first member's epoch.
        """
        require_trials(train)
        require_finite_trials(train)
        train, validation = self._readable(train), self._readable(validation)
        self._architecture = choose_architecture(train, self._model_options, network=self.kind)
        self._signature = Signature.of(train, any_participant=self._knows_nobody(train))
        self._label_loss = label_loss_kind(self.hyperparameters.training, train)
        self._say_what_is_known(train)
        self._members, self._templates, self._tokens = [], [], []
        histories = []
        with each_of(range(self.hyperparameters.training.n_seeds), "Members", "member") as members:
            for m in members:
                model, history, fitted_to = self._fit_member(train, validation, m, context=context)
                histories.append(history)
                self._members.append(model)
                self._keep_template(model, fitted_to)
        return joined_histories(histories)

    def _fit_member(
        self, train: TrialData, validation: TrialData, m: int, *, context: FitContext
    ) -> tuple[Network, History, TrialData]:
        """Train one member, and again on all trials where that is asked for; also what it was fitted to in the end."""
        own, seed = context.of(f"member{m + 1}"), self.seed + m
        model, history = self._train(train, validation, seed=seed, context=own.told(member=float(m + 1)))
        self._look_at_tokens(history, member=m)
        if self.hyperparameters.fit_on != "train+validation":
            return model, history, train
        again = replace(own.of("again"), report=None)
        model, history = self._train_again(train, validation, history, seed=seed, context=again)
        return model, history, joined_trials(train, validation)

    def _readable(self, data: TrialData) -> TrialData:
        """Return the data without CLIP targets for methods that are not guided: starts of maps see them neither."""
        return data if self.kind.guided else replace(data, targets=None)

    def _knows_nobody(self, train: TrialData) -> bool:
        """Whether nothing in the network is a participant's own, so that it decodes anyone in the common space."""
        assert self._architecture is not None
        no_tokens = self._architecture.tokens in {"shared", "none"}
        return no_tokens and train.common_space and not self._architecture.own_maps

    def _say_what_is_known(self, train: TrialData) -> None:
        if not self.kind.guided:
            reads = "guidance: %s reads no CLIP targets; the labels' loss is the whole loss."
            logger.info(reads, self.kind.name)
        elif self.hyperparameters.model.tokens == "one":
            logger.info(
                "guidance: one token is guided by both levels; L_perp is off, since there is no pair."
            )
        if len(train.participants) > 1:
            logger.info("%s: subject information: %s.", self.kind.name, self._subject_information())
        elif self.kind.alone is not None:
            logger.warning(
                "%s: with one participant it is the single-subject model (%s).",
                self.kind.name,
                self.kind.alone,
            )

    def _subject_information(self) -> str:
        assert self._architecture is not None
        return self.kind.subject_information(self.hyperparameters.model, own_maps=self._architecture.own_maps)

    def _train(
        self,
        train: TrialData,
        validation: TrialData,
        *,
        seed: int,
        context: FitContext,
        n_epochs: int | None = None,
    ) -> tuple[Network, History]:
        assert self._architecture is not None
        options = self.hyperparameters.training
        with seeded(seed, device=self.device):
            model = build_decoder(
                self._architecture, self._model_options, n_participants=len(train.participants)
            )
        kept = context.keeper.load()
        self._alignment, scores = self._resumed(kept) or self._start(model, train, seed=seed)
        fit = SharedFit(
            model, self._architecture, self._model_options, options, train, validation, seed=seed,
            guided=self.kind.guided, device=self.device, scores=scores, n_epochs=n_epochs,
        )  # fmt: skip
        with context.processes.sharing(lambda: fit.order(kept)):
            history = fit.trainer(context.processes).run(
                context.report, n_epochs=n_epochs, keeper=context.keeper, notes={"alignment": self._alignment}
            )
        return model, history

    def _resumed(self, kept: Snapshot | None) -> tuple[str, FloatArray | None] | None:
        """What ``_start`` gave to a training that goes on: what it did is in the weights that are kept."""
        return None if kept is None else (kept.values["notes"]["alignment"], kept.tensors.get("scores"))

    def _start(self, model: Network, train: TrialData, *, seed: int) -> tuple[str, FloatArray | None]:
        """Fit where maps, bias and readout start; return what the maps were fitted to, and held-out scores."""
        assert self._architecture is not None
        options, alphas = self._model_options, self.hyperparameters.linear.alphas
        alignment = start_maps(
            model, train, regions=self._architecture.regions, options=options, alphas=alphas, seed=seed
        )
        logger.info("patches: linear maps start from: %s.", alignment)
        start_bias(model, train, loss=self._label_loss)
        return alignment, start_readout(model, train, options=options, alphas=alphas, loss=self._label_loss)

    def _look_at_tokens(self, history: History, *, member: int) -> None:
        """Keep, and warn of, the state of a member's tokens at the epoch that the validation trials chose."""
        states = token_states(history, width=self._model_options.width)
        warn_of(states)
        self._tokens += [{"member": member + 1, "token": one.name, **one.as_table()} for one in states]

    def _train_again(
        self, train: TrialData, validation: TrialData, history: History, *, seed: int, context: FitContext
    ) -> tuple[Network, History]:
        """Train on all trials for as many epochs as the validation trials chose; their history is kept."""
        n_epochs = history.best_epoch
        logger.info(
            "%s: trained again on training and validation trials together, for the %d epochs that these chose.",
            self.kind.name, n_epochs,
        )  # fmt: skip
        nothing = validation.subset(np.empty(0, dtype=np.int64))
        model, _ = self._train(
            joined_trials(train, validation), nothing, seed=seed, context=context, n_epochs=n_epochs
        )
        note = f"{history.stopped}; trained again on train+validation for {n_epochs} epochs"
        return model, replace(history, stopped=note)

    def _keep_template(self, model: Network, fitted_to: TrialData) -> None:
        """Describe the features that several people with maps of their own share, for new participants."""
        assert self._architecture is not None
        if self._architecture.own_maps and len(fitted_to.participants) > 1:
            options = self.hyperparameters
            minimum, alphas = options.model.n_shared, options.linear.alphas
            self._templates.append(
                make_template(model, fitted_to, minimum=minimum, alphas=alphas, device=self.device)
            )

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Return the sigmoid (softmax) of the logits, mean over members, (n_trials, C)."""
        assert self._signature is not None, "fit or restore first"
        self._signature.check(data)
        index = {p: n for n, p in enumerate(self._signature.masks)}
        # Only a network that knows nobody is given people it does not know; their index is not looked at.
        token = [index.get(p, 0) for p in data.participants]
        reader = TrialReader(data, device=self.device, token=token)
        total = np.zeros(data.labels.shape)
        for model in self._members:
            logits = decode_logits(model.to(self.device).eval(), reader)
            total += expit(log_odds(logits, kind=self._label_loss))
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
        return {
            **({} if self._adaptation is None else {"adaptation": dict(self._adaptation)}),
            "signature": self._signature.to_config(),
            "architecture": self._architecture.to_config(),
            "hyperparameters": as_tables(self.hyperparameters),
            "alignment": self._alignment,
            "label_loss": self._label_loss,
            "tokens": [dict(one) for one in self._tokens],
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
            "subject_information": self._subject_information(),
            "tokens": [dict(one) for one in self._tokens],
        }

    @classmethod
    def restore(
        cls,
        kind: NetworkKind,
        tensors: Mapping[str, NDArray[Any]],
        config: Mapping[str, Any],
        *,
        device: str = "cpu",
    ) -> NetworkMethod:
        """Build from what ``state`` and ``config`` gave."""
        hyperparameters = build_hyperparameters(config["hyperparameters"])
        method = cls(kind, hyperparameters=hyperparameters, seed=int(config["seed"]), device=device)
        method._signature = Signature.from_config(config["signature"])
        method._architecture = Architecture.from_config(tensors, config["architecture"])
        method._alignment = str(config["alignment"])
        method._label_loss = config["label_loss"]
        method._tokens = [dict(one) for one in config.get("tokens", ())]
        for m in range(hyperparameters.training.n_seeds):
            prefix = f"member.{m}."
            with seeded(0, device=method.device):
                n_people = len(method._signature.masks)
                model = build_decoder(method._architecture, method._model_options, n_participants=n_people)
            own = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
            load_tensors(model, own)
            method._members.append(model)
            template = Template.from_tensors(tensors, f"template.{m}.")
            method._templates += [] if template is None else [template]
        method._adaptation = config.get("adaptation")
        return method
