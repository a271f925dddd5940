"""Each operation as ONNX nodes."""
