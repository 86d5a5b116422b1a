#!/usr/bin/env bash
# The method and its rivals on one small setup: a thin spiking ResNet-18 on N-MNIST, 3 seeds, equal epochs.
#
#   studies/rivals.sh RECORDINGS.npz OUT [JOBS] [OPTION ...]
#
# RECORDINGS.npz holds N-MNIST's events (data.kind nmnist_npz). Each of 39 runs is about a minute on one core that
# does nothing else. Stop it and start it again as you like, finished runs are skipped. The table is OUT/comparison.md,
# with JOBS (1) runs at the same time; time and memory per step are fair where the runs do not disturb each other.
# OPTIONs come last and win, for a trial: --seeds 1 --training.epochs 1 --data.train_limit 50 --print-recipe.
set -euo pipefail
data=$1 out=$2 jobs=${3:-1}
shortcut-snn compare --out "$out" --seeds 3 --jobs "$jobs" \
  --methods vanilla shortcut evolutionary 'evolutionary method.objective=loss_sum' \
  deep_supervision 'deep_supervision method.branches.branch_weight=linear' distillation tet tdbn sew ms sltt rate \
  --data.kind nmnist_npz --data.root "$data" --data.folds 5 --data.size 17 --data.batch_size 32 \
  --network.kind resnet18 --network.width 16 --network.time_steps 3 --neuron.surrogate.kind triangle \
  --optimizer.lr 0.01 --task.label_smoothing 0.1 --training.weight_decay_on all --training.epochs 15 --training.threads 1 "${@:4}"
