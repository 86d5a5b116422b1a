#!/usr/bin/env bash
# The method and its rivals on one small setup: a thin spiking ResNet-18 on N-MNIST, 3 seeds, equal epochs.
#
#   studies/rivals.sh RECORDINGS.npz OUT [JOBS]
#
# RECORDINGS.npz holds N-MNIST's events (data.kind nmnist_npz). Each of 39 runs is about a minute on one core that
# does nothing else. Stop it and start it again as you like, finished runs are skipped. The table is OUT/comparison.md,
# with JOBS (1) runs at the same time; time and memory per step are fair where the runs do not disturb each other.
set -euo pipefail
data=$1 out=$2 jobs=${3:-1}
methods=vanilla,shortcut,evolutionary,evolutionary:objective=loss_sum
methods+=,deep_supervision,deep_supervision:schedule=linear,distillation
methods+=,tet,tdbn,sew,ms,sltt,rate
shortcut-snn compare --out "$out" --methods "$methods" --seeds 3 --jobs "$jobs" \
  --data.kind nmnist_npz --data.root "$data" --data.folds 5 --data.size 17 --data.batch_size 32 \
  --network.kind resnet18 --network.width 16 --network.time_steps 3 --neuron.surrogate.kind triangle \
  --optimizer.lr 0.01 --optimizer.label_smoothing 0.1 --training.epochs 15 --training.threads 1
