#!/usr/bin/env bash
# The corpus pipeline as a Slurm array: sbatch configs/corpus/slurm-array.sh all
# Every pass needs all parts of the one before it, so each part waits for the others (--wait, in minutes).
#SBATCH --array=0-15
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
set -euo pipefail
python tools/corpus.py "$1" --config configs/corpus/example.yml --workers "$SLURM_CPUS_PER_TASK" \
    --shard-range "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --wait 240 --quiet
