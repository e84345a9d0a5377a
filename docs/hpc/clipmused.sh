#!/bin/bash
# One process of a job: clipmused-bids in the container of CLIPMUSED_IMAGE, or as it is installed.
set -euo pipefail
# shellcheck source=settings.sh
source "$CLIPMUSED_SETTINGS"

if [[ -z ${CLIPMUSED_IMAGE:-} ]]; then
    exec clipmused-bids "$@"
fi

# --cleanenv keeps the variables of the node out of the container. These must pass: they tell a process which one of
# several it is, where the others are, and which cores and GPUs are its own. SLURM_JOB_NAME tells a batch job from a shell.
for name in SLURM_JOB_ID SLURM_JOBID SLURM_JOB_NAME SLURM_JOB_NODELIST SLURM_NODELIST SLURM_PROCID SLURM_LOCALID \
    SLURM_NODEID SLURM_NTASKS SLURM_NPROCS SLURM_NNODES SLURM_JOB_NUM_NODES SLURM_NTASKS_PER_NODE \
    SLURM_TASKS_PER_NODE SLURM_STEP_ID SLURM_STEP_NUM_TASKS SLURM_STEP_NUM_NODES SLURM_STEP_NODELIST \
    SLURM_STEP_TASKS_PER_NODE SLURM_CPUS_PER_TASK SLURM_CPUS_ON_NODE SLURM_RESTART_COUNT \
    MASTER_ADDR MASTER_PORT CUDA_VISIBLE_DEVICES OMP_NUM_THREADS; do
    if [[ -n ${!name:-} ]]; then
        export "APPTAINERENV_$name=${!name}" "SINGULARITYENV_$name=${!name}"
    fi
done

binds=(-B "$BIDS_DIR:$BIDS_DIR:ro" -B "$OUT_DIR:$OUT_DIR")
for place in "${BINDS[@]}"; do
    binds+=(-B "$place:$place:ro")
done
if [[ -n ${WORK_DIR:-} ]]; then
    binds+=(-B "$WORK_DIR:$WORK_DIR")
fi

gpu=()
if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
    gpu=(--nv)
fi

# Several words are allowed, for example to load a module first.
read -ra apptainer <<<"${CLIPMUSED_APPTAINER:-apptainer}"
exec "${apptainer[@]}" run --cleanenv --containall "${gpu[@]}" "${binds[@]}" "$CLIPMUSED_IMAGE" "$@"
