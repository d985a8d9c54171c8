"""CPU tactics: OpenVINO and ONNX Runtime, each for the whole graph."""
