"""An ONNX model as plain records: its graph under construction, and its bytes."""
