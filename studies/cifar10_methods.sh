#!/usr/bin/env bash
# Where the method helps and where it does not: thin spiking ResNets on 10,000 CIFAR-10 images, 3 seeds.
#
#   studies/cifar10_methods.sh DATA.npz OUT
#
# DATA.npz holds x_train, y_train, x_test, y_test (see studies/cifar10_npz.py). About an hour and a half on 2 cores;
# stop it and start it again as you like, finished runs are skipped. The tables are OUT/*/comparison.md.
set -euo pipefail
data=$1 out=$2
common=(--data.name npz --data.root "$data" --data.augment '[crop,flip]' --data.batch_size 100
  --network.width 16 --network.time_steps 2 --train.precision bf16 --seeds 3 --jobs 2)
methods=vanilla,shortcut
for objective in logit_sum loss_sum; do
  for taps in stages blocks; do
    methods+=,evolutionary:objective=$objective:taps=$taps
  done
done

shortcut-snn compare "${common[@]}" --out "$out/resnet34-rectangle1" --network.name resnet34 --train.epochs 5 \
  --methods "$methods,evolutionary:objective=loss_mean:initial=1"
for surrogate in rectangle:1 triangle:1 rectangle:4; do
  shortcut-snn compare "${common[@]}" --out "$out/resnet18-${surrogate/:/}" --network.name resnet18 --train.epochs 3 \
    --neuron.surrogate.name "${surrogate%:*}" --neuron.surrogate.width "${surrogate#*:}" \
    --methods "$methods,shortcut:objective=loss_sum"
done
