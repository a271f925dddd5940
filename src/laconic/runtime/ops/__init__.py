"""What the runtime knows of each operation: its ONNX form, its shape, its element types."""
