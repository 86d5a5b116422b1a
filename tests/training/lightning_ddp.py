"""Two processes train a LightningModule with the callback until its branches are silent, and print their ends."""

import json
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy

from shortcut_snn import StepDecay
from shortcut_snn.lightning import ShortcutCallback
from tests.training.test_lightning import Mine, digits


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Mine()
    # Half of the steps with branches, half without.
    callback = ShortcutCallback("net", balance=StepDecay(0.5, until=0.5))
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        callbacks=[callback],
        limit_train_batches=4,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, *digits())
    states = {"network": module.state_dict(), "branches": callback.state_dict()}
    sums = {name: [value.double().sum().item() for value in state.values()] for name, state in states.items()}
    print("end", json.dumps([trainer.global_rank, trainer.global_step, sums]), flush=True)


if __name__ == "__main__":
    # Lightning starts the second process by this file's name.
    assert Path(__file__).is_absolute()
    main()
