#!/usr/bin/env bash
# Where the method helps and where it does not: thin spiking ResNets on 10,000 CIFAR-10 images, 3 seeds.
#
#   studies/cifar10_methods.sh DATA.npz OUT [OPTION ...]
#
# DATA.npz holds x_train, y_train, x_test, y_test (see studies/cifar10_npz.py). About an hour and a half on 2 cores;
# stop it and start it again as you like, finished runs are skipped. The tables are OUT/*/comparison.md. OPTIONs come
# last and win, for a trial: --seeds 1 --training.epochs 1 --data.train_limit 50.
set -euo pipefail
data=$1 out=$2 options=("${@:3}")
common=(--data.kind npz --data.root "$data" --data.augment '[crop,flip]' --data.batch_size 100
  --network.width 16 --network.time_steps 2 --training.precision bf16 --training.weight_decay_on all --seeds 3 --jobs 2)
all=(vanilla shortcut)
for objective in logit_sum loss_sum; do
  for taps in stages blocks; do
    all+=("evolutionary method.objective=$objective method.branches.taps=$taps")
  done
done
mean='evolutionary method.objective.kind=loss_sum method.objective.average=true method.branches.branch_weight.initial=1'

# NAME EPOCHS SURROGATE WIDTH METHOD ...
table() {
  shortcut-snn compare "${common[@]}" --out "$out/$1-$3$4" --network.kind "$1" --training.epochs "$2" \
    --neuron.surrogate.kind "$3" --neuron.surrogate.width "$4" --methods "${@:5}" "${options[@]}"
}
table resnet34 5 rectangle 1 "${all[@]}" "$mean"
table resnet34 5 rectangle 4 vanilla "${all[2]}" "${all[4]}"
table resnet18 3 triangle 1 "${all[@]}"
table resnet18 3 rectangle 4 "${all[@]}"
table resnet18 3 rectangle 1 "${all[@]}"
