#!/usr/bin/env bash
# Fixed surrogate width, calibrated widths, the method, and the method on calibrated widths, by depth, over seeds.
#
#   studies/calibration.sh DATA OUT [--set cifar10|nmnist] [--seeds 5] [--width 16] [--epochs N] [--only PATTERN]
#                                   [--jobs 2] [--surrogate rectangle] [--surrogate-width 1]
#
# DATA: for cifar10 an npz file of x_train, y_train, x_test and y_test (studies/cifar10_npz.py makes one), for nmnist the
# archive of recordings that data.name nmnist_npz reads. Stop it and start it again as you like: finished runs are
# skipped, and others go on. Tables are OUT/*/comparison.md, pages OUT/*/report.html.
#
# Every table is of four rows: vanilla and the method, each with fixed and calibrated widths. Estimated from the seconds an
# epoch of studies/cifar10_methods.sh took, on 2 cores, with the defaults: resnet18 0.4 h, resnet34 0.7 h, resnet110 2.2 h,
# with plain blocks the same, 6.6 h in all; N-MNIST a third of that.
# --only 'resnet18' runs those tables whose name matches.
set -euo pipefail
data=$1 out=$2
shift 2
set=cifar10 seeds=5 width=16 epochs= only= jobs=2 surrogate=rectangle surrogate_width=1
while (($#)); do
  case $1 in
    --set) set=$2 ;; --seeds) seeds=$2 ;; --width) width=$2 ;; --epochs) epochs=$2 ;; --only) only=$2 ;;
    --jobs) jobs=$2 ;; --surrogate) surrogate=$2 ;; --surrogate-width) surrogate_width=$2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
common=(--seeds "$seeds" --jobs "$jobs" --network.width "$width" --neuron.surrogate.name "$surrogate"
  --neuron.surrogate.width "$surrogate_width" --grid neuron.surrogate.calibrate=false,true
  --methods vanilla,evolutionary:objective=loss_sum:taps=blocks)
case $set in
  cifar10)
    common+=(--data.name npz --data.root "$data" --data.augment '[crop,flip]' --data.batch_size 100
      --network.time_steps 2 --train.precision bf16)
    epochs=${epochs:-5}
    ;;
  nmnist)
    # 100 test recordings are few: fold 0 of 5 tests on 220.
    common+=(--data.name nmnist_npz --data.root "$data" --data.events.size 17 --data.events.folds 5
      --data.batch_size 32 --network.time_steps 6)
    epochs=${epochs:-20}
    ;;
  *) echo "unknown set $set: use cifar10 or nmnist" >&2; exit 2 ;;
esac

# NETWORK BLOCK
table() {
  local place=$set-$1-$2-$surrogate$surrogate_width
  [[ $place == *"$only"* ]] || return 0
  shortcut-snn compare "${common[@]}" --out "$out/$place" --network.name "$1" --network.block "$2" \
    --train.epochs "$epochs"
  shortcut-snn report "$out/$place"
}
for network in resnet18 resnet34 resnet110; do
  for block in basic plain; do
    table "$network" "$block"
  done
done
