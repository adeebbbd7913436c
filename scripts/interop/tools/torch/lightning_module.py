"""Lightning."""

import lightning
import torch
from torch.utils.data import DataLoader

from loaders.torch import Loader


class Data(lightning.LightningDataModule):
    """Batches of a split; Lightning's checkpoints hold the state of a StatefulDataLoader too."""

    def train_dataloader(self):
        """The batches to train on."""
        return DataLoader(Loader("dataset", "train", batch_size=16), batch_size=None)


class Model(lightning.LightningModule):
    """A linear classifier."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(4, 4), []

    def training_step(self, batch):
        """The loss of a batch."""
        self.seen.append(batch)
        return torch.nn.functional.cross_entropy(self.layer(batch["features"]), batch["label"])

    def configure_optimizers(self):
        """The optimizer."""
        return torch.optim.Adam(self.parameters())


model = Model()
trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(model, Data())

# What follows compares it.
PACKAGE = "lightning"
columns = [{name: list(values) for name, values in batch.items()} for batch in model.seen]
