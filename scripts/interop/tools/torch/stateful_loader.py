"""torchdata's StatefulDataLoader."""

from torchdata.stateful_dataloader import StatefulDataLoader

from loaders.torch import Loader

loader = StatefulDataLoader(Loader("dataset", "train", batch_size=16), batch_size=None, num_workers=2)
iterator = iter(loader)
batches = [next(iterator)]
state = loader.state_dict()
loader = StatefulDataLoader(Loader("dataset", "train", batch_size=16), batch_size=None, num_workers=2)
loader.load_state_dict(state)
batches += loader

# What follows compares it.
PACKAGE = "torchdata"
columns = [{name: list(values) for name, values in batch.items()} for batch in batches]
