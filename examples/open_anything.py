"""Open a checkpoint that was pickled whole, without its class: python examples/open_anything.py [FILE]

Without FILE it first makes one in runs/ the way tutorials do, `torch.save(model)`, and forgets the class. Nothing in
it is run.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch
from torch import nn

import holdfast


def pickled_whole(path: Path) -> None:
    """Saves a whole model and its optimizer, then takes its class away, as a refactoring does."""
    gone = types.ModuleType("old_project")
    exec("from torch import nn\nclass Net(nn.Sequential):\n    pass\n", gone.__dict__)  # noqa: S102  # stands in for a file
    sys.modules["old_project"] = gone
    model = gone.Net(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
    torch.save({"epoch": 7, "model": nn.DataParallel(model)}, path)
    del sys.modules["old_project"]


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/old_model.pt")
    if len(sys.argv) == 1:
        path.parent.mkdir(exist_ok=True)
        pickled_whole(path)
    opened = holdfast.open_checkpoint(path)
    print(opened, opened.metadata)

    # A model of the same shapes from today's code; names are resolved, and the report says what fitted.
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
    print(holdfast.load_into(model, opened))
