#!/bin/bash
# Submit the whole analysis: prepare (one task per participant), train, decode (one task per participant), evaluate.
# Usage: bash submit.sh [SETTINGS]
set -euo pipefail
CLIPMUSED_HPC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CLIPMUSED_SETTINGS=$(realpath "${1:-$CLIPMUSED_HPC/settings.sh}")
# shellcheck source=settings.sh
source "$CLIPMUSED_SETTINGS"

if ((${#PARTICIPANTS[@]} == 0)); then
    for folder in "$BIDS_DIR"/sub-*/; do
        folder=${folder%/}
        PARTICIPANTS+=("${folder##*/sub-}")
    done
fi
mkdir -p "$OUT_DIR" "$LOG_DIR"
CLIPMUSED_PARTICIPANTS=$(mktemp "$LOG_DIR/participants-XXXXXX.txt")
printf '%s\n' "${PARTICIPANTS[@]}" >"$CLIPMUSED_PARTICIPANTS"
# sbatch hands the environment on to the jobs.
export CLIPMUSED_HPC CLIPMUSED_SETTINGS CLIPMUSED_PARTICIPANTS

submit() {
    # A job whose predecessor failed is removed from the queue; without, it would wait for ever.
    sbatch --parsable --kill-on-invalid-dep=yes "${SBATCH_OPTIONS[@]}" "$@"
}
array="--array=0-$((${#PARTICIPANTS[@]} - 1))%$AT_ONCE"

prepare=$(submit "$array" --output="$LOG_DIR/prepare-%A_%a.log" "${PREPARE_SBATCH[@]}" "$CLIPMUSED_HPC/prepare.sbatch")
train=$(submit --dependency="afterok:$prepare" --output="$LOG_DIR/train-%j.log" "${TRAIN_SBATCH[@]}" \
    "$CLIPMUSED_HPC/train.sbatch")
decode=$(submit "$array" --dependency="afterok:$train" --output="$LOG_DIR/decode-%A_%a.log" "${DECODE_SBATCH[@]}" \
    "$CLIPMUSED_HPC/decode.sbatch")
evaluate=$(submit --dependency="afterok:$decode" --output="$LOG_DIR/evaluate-%j.log" "${EVALUATE_SBATCH[@]}" \
    "$CLIPMUSED_HPC/evaluate.sbatch")

echo "prepare  $prepare (${#PARTICIPANTS[@]} participants)"
echo "train    $train"
echo "decode   $decode"
echo "evaluate $evaluate"
echo "logs     $LOG_DIR"
