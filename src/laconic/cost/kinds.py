"""The kinds of operations that are counted differently; ``OpFacts.kind`` is one of them.

=============== ============================================================================================
view            the same values in the same order under another shape: no copy, no memory
partial         reads as many entries of its first input (or table) as it writes
move            puts values elsewhere and computes none: its cost is traffic
pointwise       entry i of the output needs entry i of the inputs only, so it may be written over one
reduction       one operation per entry read
weighted        products with stored weights: each entry of a row for each output
transposed      the same for each input: a transposed convolution
matmul, einsum  products of values
recurrent       weights once per time step, and gates
pooling         one operation per entry of each window
normalisation   sum, sum of squares, scale and shift
softmax         maximum, exp, sum, quotient
attention       products and a softmax over the scores
resampling      products per entry, by the mode
log_sum         maximum, exp and sum
search          comparisons
sampling        products per sample
scatter         one operation per entry that is added
conversion      from float32 to int8 or back
=============== ============================================================================================

Batch normalisation is pointwise in evaluation mode: a scale and a shift per channel.
"""

from __future__ import annotations

STATES = {"lstm": 2, "gru": 1, "rnn": 1}
"""Recurrent layers and how many initial states stand between the input and the weights."""
