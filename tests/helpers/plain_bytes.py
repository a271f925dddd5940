"""Bytes, integers and names of a .lac file in plain Python, written from FORMAT.md alone."""

from __future__ import annotations

LAST_PARTS = [
    "weight",
    "weight bias",
    "bias",
    "weight bias running_mean running_var num_batches_tracked",
    "weight bias running_mean running_var",
    "running_mean running_var num_batches_tracked",
    "running_mean running_var",
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "weight_ih_l0 weight_hh_l0 bias_ih_l0 bias_hh_l0",
    "weight_ih_l0 weight_hh_l0",
    "weight_ih_l1 weight_hh_l1 bias_ih_l1 bias_hh_l1",
    "weight_ih_l0_reverse weight_hh_l0_reverse bias_ih_l0_reverse bias_hh_l0_reverse",
    "in_proj_weight in_proj_bias",
    "in_proj_weight",
]


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        code = self.varint()
        return code // 2 if code % 2 == 0 else -(code + 1) // 2

    def text(self) -> str:
        return self.take(self.varint()).decode()


def read_names(source: Bytes, n: int) -> list[str]:
    names: list[str] = []
    path = b""
    while len(names) < n:
        head = source.take(1)[0]
        shared, fresh = head >> 4, head & 15
        shared += source.varint() if shared == 15 else 0
        fresh += source.varint() if fresh == 15 else 0
        path = path[:shared] + source.take(fresh)
        token = source.take(1)[0]
        for last in LAST_PARTS[token - 1].split() if token else [source.text()]:
            names.append(f"{path.decode()}.{last}" if path else last)
    return names
