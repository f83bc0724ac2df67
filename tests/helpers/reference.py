"""VGG16 features and LPIPS in PyTorch, which made tests/golden/vgg_lpips.npz.

    pip install torch
    python tests/helpers/reference.py

A narrow VGG16: the layers are those of torchvision's, the widths are not. Each of its tensors is
drawn from a generator seeded with its name, so the file holds inputs and outputs alone.
"""

import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden" / "vgg_lpips.npz"
STAGES = {8: 2, 12: 2, 16: 3, 20: 3, 24: 3}  # width -> convolutions
HIDDEN = 40, 48


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def tensors() -> dict[str, np.ndarray]:
    """All tensors of the narrow VGG16 and of LPIPS' linear layers, by their published names."""
    shapes, inputs, index = {}, 3, 0
    for width, count in STAGES.items():
        for _ in range(count):
            shapes[f"features.{index}.weight"] = (width, inputs, 3, 3)
            shapes[f"features.{index}.bias"] = (width,)
            inputs, index = width, index + 2  # a ReLU follows
        index += 1  # so does a pooling
    inputs *= 7 * 7
    for index, width in zip((0, 3, 6), (*HIDDEN, 10), strict=True):
        shapes[f"classifier.{index}.weight"] = (width, inputs)
        shapes[f"classifier.{index}.bias"] = (width,)
        inputs = width
    shapes |= {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(STAGES)}
    return {name: draw(name, shape) for name, shape in shapes.items()}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    r = generator(name)
    if name.startswith("lin"):
        values = r.uniform(0, 1, shape)
    elif name.endswith("bias"):
        values = r.standard_normal(shape) * 0.1
    else:
        values = r.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return values.astype(np.float32)


def inputs() -> dict[str, np.ndarray]:
    """Images: one to enlarge, one that shrinks along one side alone, and pairs for LPIPS."""
    shapes = {"up": (2, 24, 40, 3), "down": (1, 450, 32, 3), "x": (2, 35, 50, 3)}
    images = {k: generator(k).integers(0, 256, shape, np.uint8) for k, shape in shapes.items()}
    near = images["x"] // 2 + generator("y").integers(0, 128, shapes["x"], np.uint8)
    return images | {"y": near}


def outputs(arrays: dict, images: dict) -> dict[str, np.ndarray]:
    """`features_up`, `features_down`, `distance` of x and y, and the `gradient` of its sum in x."""
    import torch

    network = _vgg16()
    network.load_state_dict(
        {k: torch.tensor(v) for k, v in arrays.items() if not k.startswith("lin")}
    )

    def nchw(image):
        return torch.tensor(image).permute(0, 3, 1, 2).float()

    with torch.no_grad():
        found = {f"features_{k}": _features(network, nchw(images[k])) for k in ("up", "down")}
    linear = [torch.tensor(arrays[f"lin{i}.model.1.weight"]) for i in range(5)]
    x, y = (nchw(images[k]) / 127.5 - 1 for k in "xy")
    x.requires_grad_(True)
    found["distance"] = _lpips(network, linear, x, y)
    found["distance"].sum().backward()
    found["gradient"] = x.grad.permute(0, 2, 3, 1)
    return {k: v.detach().numpy() for k, v in found.items()}


def _vgg16():
    from torch import nn

    layers, before = [], 3
    for width, count in STAGES.items():
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(before * 49, HIDDEN[0]), nn.ReLU(), nn.Dropout()]
    dense += [nn.Linear(*HIDDEN), nn.ReLU(), nn.Dropout(), nn.Linear(HIDDEN[1], 10)]
    parts = {"features": nn.Sequential(*layers), "classifier": nn.Sequential(*dense)}
    return nn.ModuleDict(parts).eval()


def _features(network, image):
    import torch
    from torch.nn import functional

    x = functional.interpolate(image, (224, 224), mode="bilinear", antialias=True) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = network["features"]((x - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1))
    return network["classifier"][:5](x.flatten(1))


def _lpips(network, linear, x, y):
    import torch
    from torch.nn import functional

    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = ((image - shift.reshape(3, 1, 1)) / scale.reshape(3, 1, 1) for image in (x, y))
    distance = 0
    for layer, module in enumerate(network["features"]):
        x, y = module(x), module(y)
        if layer in (3, 8, 15, 22, 29):
            u, v = (t / (t.square().sum(1, keepdim=True).sqrt() + 1e-10) for t in (x, y))
            weight = linear[(3, 8, 15, 22, 29).index(layer)]
            distance = distance + functional.conv2d((u - v) ** 2, weight).mean((1, 2, 3))
    return distance


if __name__ == "__main__":
    images = inputs()
    np.savez_compressed(GOLDEN, **images, **outputs(tensors(), images))
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")
