"""The whole file: sections, tensors, checksums; reading and writing; byte counts; resources for decoding."""
