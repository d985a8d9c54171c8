"""Train a small CNN on handwritten digits, build an engine from it, and compare the two on unseen digits.

    python examples/02_mnist_train_to_engine/train_to_engine.py

The digits are scikit-learn's 1797 real scans of 8 x 8 pixels: MNIST's idea at a size that trains in seconds.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import trine


class DigitNet(nn.Module):
    """Two convolutions and two linear layers: (N, 1, 8, 8) pixels in 0..1 to (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int = 15) -> None:
    """Plain Adam on shuffled batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )

    model = DigitNet()
    train(model, torch.from_numpy(train_x), torch.from_numpy(train_y))
    model.eval()

    # The engine takes 1 to 450 digits a call, and is tuned for 64.
    engine = trine.build(model, (torch.from_numpy(test_x[:2]),), batch=(1, 64, len(test_x)))
    engine.save("digits.trine")
    engine = trine.load("digits.trine")

    with torch.inference_mode():
        from_pytorch = model(torch.from_numpy(test_x)).numpy()
    from_trine = engine(test_x)

    print(f"unseen digits        {len(test_x)}")
    print(f"accuracy, PyTorch    {np.mean(from_pytorch.argmax(1) == test_y):.4f}")
    print(f"accuracy, trine      {np.mean(from_trine.argmax(1) == test_y):.4f}")
    print(f"largest difference   {np.abs(from_trine - from_pytorch).max():.1e} in the logits")


if __name__ == "__main__":
    main()
