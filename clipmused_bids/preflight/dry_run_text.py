"""The report of a dry run as text."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from clipmused_bids import __version__
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.evaluation.cross_validation import fold_numbers
from clipmused_bids.evaluation.splits import count_sets
from clipmused_bids.preflight.decoder_size import DecoderSize
from clipmused_bids.preflight.durations import seconds
from clipmused_bids.preflight.estimates import Estimate, Work, disk, gpu_memory, kept_states, memory, total
from clipmused_bids.preflight.findings import Findings
from clipmused_bids.preflight.run_sizes import ParticipantSize
from clipmused_bids.records import Split
from clipmused_bids.responses.estimate import choose_kind
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.contenders import asked_for, contenders
from clipmused_bids.stages.coverage import coverage_table
from clipmused_bids.stages.invocation import stimuli_of
from clipmused_bids.stages.places import nearest_folder
from clipmused_bids.stages.plan import SMALL_PRESET_TRIALS, Plan
from clipmused_bids.stages.splitting import folds_of_runs, sets_of_runs
from clipmused_bids.stages.terminal import WIDTH, aligned, item, section, size_text, time_text
from clipmused_bids.stages.training_set import standardization_unit

# More participants are summed up.
_MOST_ROWS = 20


def report(found: Findings) -> str:
    """Everything that a dry run found, one section after the other."""
    lines = [
        f"clipmused-bids {__version__}, dry run: nothing is written; of images only headers are read.",
        "",
    ]
    if found.plan is not None:
        lines += _request(found.plan) + _participants(found) + _events(found.plan)
        lines += _stimuli(found, found.plan) + _split(found, found.plan) + _decoder(found, found.plan)
    if found.work is not None:
        lines += ["", *_needs(found, found.work)]
    lines += ["", *_warnings(found), *_problems(found)]
    return "\n".join(lines) + "\n"


def _request(plan: Plan) -> list[str]:
    config = plan.config
    tasks = ", ".join(sorted({run.task for run in plan.runs}))
    space = f"common space {plan.runs[0].space}" if plan.common_space else "native space"
    read = "; ".join(f"{derivative.name} = {derivative.path}" for derivative in plan.derivatives)
    return [
        *section("Request", f"{config.level}: {' + '.join(config.actions)}"),
        *section(
            "Dataset",
            f"{config.bids_dir}, task {tasks}, {space}",
            *([f"derivatives: {read}"] if read else []),
        ),
        "",
    ]


def _participants(found: Findings) -> list[str]:
    if not found.sizes:
        return []
    head = ("participant", "runs", "trials", "volumes", "grid", "voxels", "mask", "confounds", "stored")
    rows = [head, *(_row(size) for size in found.sizes[:_MOST_ROWS])]
    lines = aligned(rows, right=(False, True, True, True, True, True, False, True, True))
    rest = found.sizes[_MOST_ROWS:]
    if rest:
        lines.append(
            f"and {len(rest)} more: {sum(len(size.runs) for size in rest)} runs, "
            f"{sum(size.n_trials for size in rest)} trials"
        )
    return [*lines, ""]


def _row(size: ParticipantSize) -> tuple[str, ...]:
    volumes = [one.n_volumes for one in size.runs if one.n_volumes is not None]
    with_confounds = sum(one.run.confounds is not None for one in size.runs)
    bound = "" if size.mask != "computed" else "<="
    return (
        f"sub-{size.participant}",
        str(len(size.runs)),
        str(size.n_trials),
        str(sum(volumes)) if volumes else "?",
        "x".join(str(n) for n in size.grid.shape) if size.grid is not None else "?",
        f"{bound}{size.n_voxels}" if size.n_voxels else "?",
        size.mask,
        f"{with_confounds} of {len(size.runs)}",
        f"{size.n_stored} of {len(size.runs)}",
    )


def _events(plan: Plan) -> list[str]:
    trials = [plan.trials[run.key] for run in plan.runs]
    columns = Counter(", ".join(("onset", "duration", *one.columns)) for one in trials)
    notes = Counter(note for one in trials for note in one.notes)
    return section(
        "Events",
        *(f"columns ({n} file(s)): {names}" for names, n in columns.most_common(3)),
        *(f"note ({n} file(s)): {note}" for note, n in notes.most_common(5)),
        f"responses: {_response_kind(plan)}; standardised by {standardization_unit(plan)}",
    )


def _response_kind(plan: Plan) -> str:
    if plan.hyperparameters.responses.kind != "auto":
        return f"{plan.kind} (as asked for)"
    why = choose_kind([plan.trials[run.key] for run in plan.runs], plan.runs[0].image_kind)[1]
    return f"{plan.kind} ({why})"


def _stimuli(found: Findings, plan: Plan) -> list[str]:
    catalogue = found.catalogue
    table = coverage_table(plan, None) if catalogue is None else catalogue.coverage
    covered = section("Coverage", *table.splitlines())
    if catalogue is None:
        return covered
    rows = catalogue.rows_of(stimuli_of(plan))
    with_captions = sum(bool(catalogue.stimuli.captions[k]) for k in rows)
    return [
        *covered,
        *_labels(found, plan, catalogue),
        *section("Captions", f"{with_captions} of {len(rows)} stimuli have some"),
        *_guidance(plan, catalogue, rows),
    ]


def _labels(found: Findings, plan: Plan, catalogue: Catalogue) -> list[str]:
    inputs, names = plan.config.inputs, catalogue.stimuli.label_names
    own = set(names) <= set(catalogue.table)
    source = ", ".join(inputs.labels) or ("stimuli/stimuli.tsv" if own else "trial_type")
    values = catalogue.labels_of([name for run in plan.runs for name in plan.trials[run.key].stimulus_id])
    known = np.asarray(~np.isnan(values).all(axis=1))
    counts = Counter({name: int(n) for name, n in zip(names, np.nansum(values, axis=0), strict=True)})
    ordered = counts.most_common()
    each = "one" if catalogue.stimuli.single_label else "several"
    labelled = f"{known.sum()} of {len(known)} trials are labelled"
    lines = [
        f"{len(names)} from {source}, {each} for each stimulus; {labelled}",
        f"most common: {_some(ordered[:3])}; rarest: {_some(ordered[:-4:-1])}",
    ]
    if found.split is not None and "train" in plan.config.actions and len(found.label_names) < len(names):
        lines.append(f"decoded: {len(found.label_names)}, since the others are too rare in the training data")
    return section("Labels", *lines)


def _some(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in counts)


def _guidance(plan: Plan, catalogue: Catalogue, rows: Sequence[int]) -> list[str]:
    if not any(one.info.guided for one in asked_for(plan.config)) or "train" not in plan.config.actions:
        return []
    kind = plan.hyperparameters.targets.high
    pictures = any(catalogue.stimuli.picture[k] is not None for k in rows)
    captions = any(catalogue.stimuli.captions[k] for k in rows)
    words = "captions" if captions else "sentences made of the labels"
    sources = (["pictures"] if pictures and kind != "text" else []) + ([words] if kind != "image" else [])
    return section(
        "Guidance",
        f"high level: {' and '.join(sources) or 'off'}; low level: {'pictures' if pictures else 'off (no pictures)'}",
    )


def _split(found: Findings, plan: Plan) -> list[str]:
    split = found.split
    if split is None:
        trains = "train" in plan.config.actions
        return section("Split", "cannot be made; see the problems below" if trains else "none is needed")
    reasons = Counter(why for why, name in zip(split.reason, split.set_name, strict=True) if name == "test")
    sets = sets_of_runs(split, plan.runs, plan.trials)
    folds = fold_numbers(split)
    if folds:
        return section("Split", *_folds(plan, split, folds))
    counts = count_sets(name for names in sets.values() for name in names)
    lines = [
        f"rule {split.rule}; regime: {split.regime}",
        "trials: " + ", ".join(f"{name} {n}" for name, n in counts.items()),
        *(f"test: {why}" for why, _ in reasons.most_common(1)),
    ]
    if found.catalogue is not None and any(found.catalogue.stimuli.picture):
        lines.append(
            "the run also compares the contents of pictures, which may move a few trials between the sets"
        )
    return section("Split", *lines)


def _folds(plan: Plan, split: Split, folds: Sequence[int]) -> list[str]:
    found = folds_of_runs(split, plan.runs, plan.trials)
    counts = Counter(fold for of_run in found.values() for fold in of_run)
    return [
        f"rule {split.rule}; regime: {split.regime}",
        f"{len(folds)} folds of {', '.join(str(counts[fold]) for fold in folds)} trials; {counts[None]} in none",
        "each fold is held out once and validates once; at last a decoder is fitted to all of them",
    ]


def _decoder(found: Findings, plan: Plan) -> list[str]:
    config = plan.config
    if not {"train", "decode", "evaluate"} & set(config.actions):
        return section("CLIP", f"{found.clip.where}") if found.clip is not None else []
    n_trials = sum(plan.trials[run.key].n_trials for run in plan.event_runs)
    side = "fewer than" if n_trials < SMALL_PRESET_TRIALS else "at least"
    why = "as asked for" if config.preset else f"{n_trials} trials, {side} {SMALL_PRESET_TRIALS}"
    asked = asked_for(config)
    preset = f", preset {plan.preset} ({why})" if any(one.info.deep for one in asked) else ""
    state = {None: "", True: "; is stored already and would be reused", False: "; is not stored yet"}
    lines = [f"{asked[0].name}{preset}, model label {config.model_label}{state[found.stored_decoder]}"]
    if len(asked) > 1:
        lines.append(f"compared with: {', '.join(one.name for one in asked[1:])}")
    added = [one.name for one in contenders(config) if not one.asked]
    if added:
        lines.append(f"baselines of the evaluation: {', '.join(added)}")
    if found.work is not None:
        lines += [
            f"{_named(name, config.method)}patches {size.patches}: {size.n_patches}; parameters: {_parameters(size)}"
            for name, size in found.work.decoders.items()
        ]
    if found.clip is not None:
        lines.append(f"CLIP {plan.hyperparameters.targets.clip_model}: {found.clip.where}")
    return section("Decoder", *lines)


def _named(method: str, asked: str) -> str:
    return "" if method == asked else f"{method}: "


def _parameters(size: DecoderSize) -> str:
    if size.n_decoders > 1:
        return f"up to {size.n_parameters:,} in each of {size.n_decoders} decoders"
    return f"{size.shared:,} shared, {size.own:,} of people"


def _needs(found: Findings, work: Work) -> list[str]:
    space, ram = disk(work), memory(work)
    gpu, duration = gpu_memory(work), seconds(work)
    free = shutil.disk_usage(nearest_folder(found.config.output_dir)).free
    rows = [
        ("disk", size_text(total(space)), f"of {size_text(free)} free"),
        *_lines((*space, *kept_states(work)), size_text),
        *([("memory", size_text(max(line.amount for line in ram)), "peak")] if ram else []),
        *_lines(ram, size_text),
        *(
            [("GPU memory", size_text(max(line.amount for line in gpu)), "peak, if a GPU is used")]
            if gpu
            else []
        ),
        *_lines(gpu, size_text),
        ("time", time_text(total(duration)), "rough; without a GPU"),
        *_lines(duration, time_text),
    ]
    widths = [max(len(row[k]) for row in rows) for k in (0, 1)]
    lines = ["Needs, as estimated:"]
    for name, amount, basis in rows:
        head = f"  {name.ljust(widths[0])}  {amount.rjust(widths[1])}  "
        lines += textwrap.wrap(
            basis, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
        )
    lines += _flat_note(work)
    return [*lines, ""]


def _lines(estimates: Sequence[Estimate], text: Callable[[float], str]) -> list[tuple[str, str, str]]:
    return [(f"  {one.what}", text(one.amount), one.basis) for one in estimates]


def _flat_note(work: Work) -> list[str]:
    """Say what all numbers of the low level would take, where they are not kept."""
    if work.clip is None or work.n_low == 0:
        return []
    flat = work.clip.n_patches * work.clip.patch_width
    if work.n_low == flat:
        return []
    whole = size_text(2.0 * flat * work.n_pictures)
    return [
        f'  All {flat:,} low-level numbers (targets.low = "flat") would take {whole}; {work.n_low:,} are kept.'
    ]


def _warnings(found: Findings) -> list[str]:
    if not found.warnings:
        return []
    lines = ["Warnings:"]
    for text in found.warnings:
        lines += item("-", text)
    return [*lines, ""]


def _problems(found: Findings) -> list[str]:
    problems = found.problems
    if not problems.of_everyone and not problems.of_participants:
        return ["No problem was found: the run can start."]
    ends = "end" if problems.of_everyone else "leave participants out and end"
    lines = [f"Problems: the run would {ends} with exit code {int(problems.exit_code)}."]
    for error in problems.of_everyone:
        lines += item(f"exit {int(error.exit_code)}:", _message(error), hint=error.hint)
    for participant, error in problems.of_participants:
        name = f"sub-{participant}"
        message = _message(error) if name in _message(error) else f"{name}: {_message(error)}"
        lines += item(f"exit {int(error.exit_code)}:", message, hint=error.hint)
    return lines


def _message(error: ClipMusedError) -> str:
    return str(error.args[0])
