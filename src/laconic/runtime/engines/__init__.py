"""What runs a network: ONNX Runtime, OpenVINO, and our kernels where they win, chosen by measurement."""
