# shellcheck shell=bash
# What the job scripts share: run the command as a job step, and go on later if it was interrupted.

# shellcheck source=settings.sh
source "$CLIPMUSED_SETTINGS"

# The scheduler's warning goes to the command. If it reaches this script as well, the script waits for the command.
trap : TERM USR1

# From Slurm 22.05 on, srun does not inherit this from the job.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# The participant of this array task: line number SLURM_ARRAY_TASK_ID of the list that submit.sh wrote, from 0.
participant_of_task() {
    local participants
    mapfile -t participants <"$CLIPMUSED_PARTICIPANTS"
    echo "${participants[SLURM_ARRAY_TASK_ID]}"
}

# Participants of a step of the group: those of the settings; none named is everyone.
selection=()
if ((${#PARTICIPANTS[@]} > 0)); then
    # shellcheck disable=SC2034
    selection=(--participant-label "${PARTICIPANTS[@]}")
fi

# Memory for the estimation of responses: most of what the job has.
memory_options() {
    if ((${SLURM_MEM_PER_NODE:-0} > 0)); then
        echo "--mem=$((SLURM_MEM_PER_NODE * 8 / 10))M"
    fi
}

# Run the command, and end this script with its exit code. Exit code 75 says: interrupted, run me again.
run_or_requeue() {
    local code=0 words=("$BIDS_DIR" "$OUT_DIR" "$@" "${OPTIONS[@]}")
    if [[ -n ${WORK_DIR:-} ]]; then
        mkdir -p "$WORK_DIR"
        words+=(--work-dir "$WORK_DIR")
    fi
    echo "$(date -Is) start $((${SLURM_RESTART_COUNT:-0} + 1)) of at most $((MAX_REQUEUES + 1)): ${words[*]}"
    srun --kill-on-bad-exit=1 "$CLIPMUSED_HPC/clipmused.sh" "${words[@]}" || code=$?
    echo "$(date -Is) exit code $code"
    if is_interruption "$code"; then
        requeue
    fi
    exit "$code"
}

# In a container the signal may end its helper processes as well (the one that serves the image file, where apptainer is
# installed without privileges). The command then dies of a bus error (135), or the container of the signal (143).
is_interruption() {
    (($1 == 75)) || { [[ -n ${CLIPMUSED_IMAGE:-} ]] && (($1 == 135 || $1 == 143)); }
}

requeue() {
    # A job that is being cancelled, or that Slurm itself puts back, is no longer RUNNING: leave it alone.
    if [[ $(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T) != RUNNING ]]; then
        echo "not put back into the queue: the scheduler is ending this job"
    elif ((${SLURM_RESTART_COUNT:-0} >= MAX_REQUEUES)); then
        echo "not put back into the queue: MAX_REQUEUES=$MAX_REQUEUES; submit it again to go on"
    else
        echo "put back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
        # The scheduler ends this script; an exit code of its own would be that of the whole job.
        sleep 300
    fi
}
