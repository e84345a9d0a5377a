#!/bin/bash
# A whole Slurm on this machine, with its own folder, key and ports: for tests, as root.
#   slurm_node.sh install         slurm and munge from the distribution, if they are missing
#   slurm_node.sh start FOLDER    write slurm.conf there and start it; commands find it by SLURM_CONF=FOLDER/slurm.conf
#   slurm_node.sh stop FOLDER     end what was started
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

install() {
    if ! command -v slurmctld slurmd sbatch munged scontrol >/dev/null; then
        apt-get update -qq
        # Services of the packages stay off: the test starts its own.
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends slurm-wlm munge
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

configure() {
    local cpus
    # Two tasks must be able to run at once, even where there is one core.
    cpus=$(nproc)
    cpus=$((cpus < 2 ? 2 : cpus))
    cat >"$1/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits as long as its credential lives.
AuthInfo=socket=$1/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool
SlurmctldPidFile=$1/slurmctld.pid
SlurmdPidFile=$1/slurmd.pid
SlurmctldLogFile=$1/slurmctld.log
SlurmdLogFile=$1/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
# Finished jobs can be asked for; there is no accounting.
MinJobAge=86400
KillWait=20
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=8000
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    mkdir -p "$1/state" "$1/spool"
    chmod 755 "$1"
    configure "$1"
    head -c 128 /dev/urandom >"$1/munge.key"
    chmod 400 "$1/munge.key"
    munged --key-file="$1/munge.key" --socket="$1/munge.sock" --pid-file="$1/munged.pid" \
        --log-file="$1/munged.log" --seed-file="$1/munged.seed"
    export SLURM_CONF=$1/slurm.conf
    slurmctld
    slurmd
    for _ in $(seq 60); do
        if [[ $(sinfo --noheader --format %t 2>/dev/null) == idle ]]; then
            return
        fi
        sleep 1
    done
    echo "the node did not become idle:" >&2
    sinfo >&2 || true
    tail -n 20 "$1/slurmctld.log" "$1/slurmd.log" >&2
    return 1
}

stop() {
    export SLURM_CONF=$1/slurm.conf
    scancel --user root --quiet 2>/dev/null || true
    # Their processes outlive the daemons.
    for _ in $(seq 30); do
        [[ -n $(squeue --noheader 2>/dev/null) ]] || break
        sleep 1
    done
    for name in slurmd slurmctld munged; do
        if [[ -s $1/$name.pid ]]; then
            kill "$(cat "$1/$name.pid")" 2>/dev/null || true
            for _ in $(seq 50); do
                [[ -e $1/$name.pid ]] || break
                sleep 0.1
            done
        fi
    done
}

case ${1:-} in
    install) install ;;
    start | stop) "$1" "$(realpath -m "${2:?a folder}")" ;;
    *) sed -n '2,5s/^# //p' "$0"; exit 64 ;;
esac
