"""Codes arrays with NNCodec, in an environment of its own (NNCodec pins old packages).

Reads the path of an ``.npz`` of float32 arrays from the first argument. Then reads one JSON object of
NNCodec's settings from each line of standard input, codes all arrays, writes the decoded ones to the
``.npz`` named by the second argument, and answers with one line: the length of the bitstream, in bytes. Used
by ``posthoc.py``.
"""

import contextlib
import json
import os
import sys
import tempfile

import numpy as np
from nncodec.nn import decode, encode


def main() -> None:
    arrays, decoded = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            settings = json.loads(line)
            with np.load(arrays) as archive:  # NNCodec may write to what it is given
                tensors = {name: archive[name] for name in archive.files}
            with contextlib.redirect_stdout(sys.stderr):
                stream = encode(tensors, args={**settings, "results": folder})
                values = decode(stream)
            np.savez(decoded, **{name: np.asarray(value, np.float32) for name, value in values.items()})
            print(len(stream), flush=True)


if __name__ == "__main__":
    main()
