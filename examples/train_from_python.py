"""Training in Python: data in memory or in a folder, the loop as a generator, parameter groups, frozen layers.

python examples/train_from_python.py
"""

import numpy as np
import torch
from torchvision.transforms import v2

from holdfast import ArrayPictures, Loader, TrainState, build_model, evaluate, train_steps
from holdfast.data import complete_sets
from holdfast.data.arrays import load_digits
from holdfast.data.sample import Collection
from holdfast.training import build_loss, build_optimizer, build_schedule
from holdfast.training.freeze import freeze


def main() -> None:
    # Your own arrays: shared with Holdfast, not copied, unless you say copy=True.
    digits = load_digits()
    images = np.stack([digits.read(i).numpy() for i in range(len(digits))])
    pictures = ArrayPictures(images, digits.labels, classes=[f"digit {k}" for k in range(10)])
    sets = complete_sets(Collection(pictures), seed=1)

    # Any callable is a transform: torchvision's, or your own. Its random numbers are seeded for each picture.
    usual = v2.Compose([v2.Resize((16, 16)), v2.ToDtype(torch.float32, scale=True)])

    def augment(image: torch.Tensor) -> torch.Tensor:
        pixels: torch.Tensor = usual(image)
        return pixels + torch.randn_like(pixels) * 0.05

    train = Loader(
        pictures, sets["train"], batch_size=32, shuffle=True, drop_last=True, transform=augment, num_workers=0
    )
    val = Loader(pictures, sets["val"], batch_size=64, transform=usual)

    torch.manual_seed(1)
    model = build_model("lenet", num_classes=10, in_channels=1, image_size=16)
    freeze(model, ["conv1"])  # stays as it is, batch-norm statistics included, where there are any
    optimizer = build_optimizer(model, "adamw", lr=2e-3, weight_decay=0.01, lr_scales={"fc3": 3.0})
    until = 4 * len(train)
    state = TrainState(model, optimizer, build_loss("cross-entropy"), build_schedule("cosine", 2e-3, until), seed=1)

    while state.step < until:
        for result in train_steps(state, train, until=until):
            if result.step % 20 == 0:
                print(f"step {result.step}: loss {float(result.loss):.3f}, learning rate {result.lr:.2g}")
        evaluation = evaluate(model, val)
        assert evaluation is not None
        print(f"epoch {train.epoch + 1}: val accuracy {evaluation.accuracy:.1%}")


if __name__ == "__main__":
    main()
