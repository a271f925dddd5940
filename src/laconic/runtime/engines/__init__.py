"""The engines: ONNX Runtime, OpenVINO, and our kernels where they are measured to be faster."""
