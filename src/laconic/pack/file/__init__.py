"""The file as a whole: sections, tensors, checksums; on disk, in numbers, and what decoding it takes."""
