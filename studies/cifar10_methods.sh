#!/usr/bin/env bash
# Where the method helps and where it does not: thin spiking ResNets on 10,000 CIFAR-10 images, 3 seeds.
#
#   studies/cifar10_methods.sh DATA.npz OUT
#
# DATA.npz holds x_train, y_train, x_test, y_test (see studies/cifar10_npz.py). About an hour and a half on 2 cores;
# stop it and start it again as you like, finished runs are skipped. The tables are OUT/*/comparison.md.
set -euo pipefail
data=$1 out=$2
common=(--data.kind npz --data.root "$data" --data.augment '[crop,flip]' --data.batch_size 100
  --network.width 16 --network.time_steps 2 --training.precision bf16 --seeds 3 --jobs 2)
all=vanilla,shortcut
for objective in logit_sum loss_sum; do
  for taps in stages blocks; do
    all+=,evolutionary:objective=$objective:taps=$taps
  done
done

# NAME EPOCHS SURROGATE WIDTH METHODS
table() {
  shortcut-snn compare "${common[@]}" --out "$out/$1-$3$4" --network.kind "$1" --training.epochs "$2" \
    --neuron.surrogate.kind "$3" --neuron.surrogate.width "$4" --methods "$5"
}
table resnet34 5 rectangle 1 "$all,evolutionary:objective=loss_mean:initial=1"
table resnet34 5 rectangle 4 vanilla,evolutionary:objective=logit_sum:taps=stages,evolutionary:objective=loss_sum:taps=stages
table resnet18 3 triangle 1 "$all"
table resnet18 3 rectangle 4 "$all"
table resnet18 3 rectangle 1 "$all"
