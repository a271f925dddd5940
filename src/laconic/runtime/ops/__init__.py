"""The table of operations: ONNX form, shape and element types of each."""
