"""Models by name, your own among them: names, shapes, counts, and the optimizer's groups.

python examples/look_at_models.py
"""

import torch

from holdfast import build_model
from holdfast.models import list_models, summarize_model
from holdfast.training import build_optimizer


def main() -> None:
    print("some of", len(list_models()), "models:", ", ".join(list_models("resnet18")[:4]))
    for name, size in (
        ("lenet", 28),
        ("cifar-net", 32),
        ("mlp", 28),
        ("dynamic", 28),
        ("resnet18", 64),
        ("timm:resnet10t", 64),
    ):
        model = build_model(name, num_classes=5, in_channels=3, image_size=size)
        summary = summarize_model(model)
        first = summary.tensors[0]
        print(f"{name:15} {summary.num_parameters:>11,} parameters, first {first.name} {list(first.shape)}")
        model.eval()
        with torch.inference_mode():
            assert model(torch.zeros(2, 3, size, size)).shape == (2, 5)
    model = build_model("resnet18", num_classes=5, image_size=64)
    optimizer = build_optimizer(model, "sgd", lr=0.1, weight_decay=1e-4, lr_scales={"fc": 10.0})
    for group in optimizer.param_groups:
        print(f"lr {group['lr']}, weight decay {group['weight_decay']}: {len(group['params'])} of its tensors")


if __name__ == "__main__":
    main()
