#!/usr/bin/env bash
# A SLURM job that goes on until it is done: before its time is up it saves, and asks to be queued again.
#   sbatch examples/slurm.sh path/to/pictures runs/mine [more flags of `holdfast train`]
#SBATCH --job-name=holdfast
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=8
#SBATCH --gpus=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
data=$1 out=$2
shift 2

# SLURM sends USR1 to this script (B:) two minutes before the end. Bash sees it only while it waits for a child
# that runs beside it, so training runs beside it, and gets the signal passed on.
srun --kill-on-bad-exit=1 holdfast train "$data" --out "$out" --save-every 10min --grace 110s "$@" &
training=$!
trap 'kill -USR1 "$training"' USR1
trap 'kill -TERM "$training"' TERM

code=0
while kill -0 "$training" 2>/dev/null; do
    wait "$training" && code=0 || code=$?
done

# 143: stopped by a signal (or a time budget), and saved. The same job again takes it up at the exact step.
if [[ $code -eq 143 ]]; then
    echo "saved; job ${SLURM_JOB_ID} goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
