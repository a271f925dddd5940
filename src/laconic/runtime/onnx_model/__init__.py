"""A packed model's graph as an ONNX model, in float32 and in int8: construction, records, bytes."""
