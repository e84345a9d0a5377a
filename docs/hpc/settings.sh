# shellcheck shell=bash disable=SC2034
# What the jobs read. Copy this file, change it, and give it to submit.sh:   bash submit.sh my-settings.sh

# The raw dataset (only read) and the folder of results. Absolute paths.
BIDS_DIR=/data/study/bids
OUT_DIR=/data/study/derivatives/clipmused

# The container image (a .sif file). Empty: the command clipmused-bids as it is installed on the nodes.
CLIPMUSED_IMAGE=${CLIPMUSED_IMAGE:-}

# Further folders and files that the container must see, apart from the two above: weights, derivatives, stimuli.
# They are bound read-only, and have the same path inside.
BINDS=(/data/weights)

# Options of every step, then of single ones. `clipmused-bids --help` lists them.
OPTIONS=(--clip-weights /data/weights/clip-vit_base_patch16_clip_224.openai)
PREPARE_OPTIONS=()
TRAIN_OPTIONS=()
DECODE_OPTIONS=()
EVALUATE_OPTIONS=()

# Participants of all steps, without sub-. Empty: every folder sub-* of BIDS_DIR.
PARTICIPANTS=()

# Most participants at a time.
AT_ONCE=50

# Fast disk of the node for intermediate files, as a path there. Empty: none is used.
WORK_DIR=

# What the scheduler writes.
LOG_DIR=$OUT_DIR/logs/slurm

# Options of sbatch for every job, then for single ones; they win over the #SBATCH lines of the scripts.
SBATCH_OPTIONS=()
PREPARE_SBATCH=()
TRAIN_SBATCH=()
DECODE_SBATCH=()
EVALUATE_SBATCH=()

# How often a job that was interrupted (preemption, time limit) is put back into the queue.
MAX_REQUEUES=20
