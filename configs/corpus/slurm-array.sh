#!/usr/bin/env bash
# One pass as a Slurm array. Every pass needs all parts of the one before it, so submit them with a dependency:
#   job=$(sbatch --parsable configs/corpus/slurm-array.sh filters)
#   sbatch --dependency=afterok:$job configs/corpus/slurm-array.sh split
#SBATCH --array=0-15
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
set -euo pipefail
python tools/corpus.py "$1" --config configs/corpus/example.yml --workers "$SLURM_CPUS_PER_TASK" \
    --shard-range "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --quiet
