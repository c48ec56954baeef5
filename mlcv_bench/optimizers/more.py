"""Update rules of the field beyond the notes, each with its paper, written as those of rules.py are.

To add one, write its function here and a row of its published implementation in tests/optimizers/test_more.py. These
rules run wherever the notes' do, and in a race where they are named.
"""

from mlcv_bench.functions import sign


def lion(x, g, t, m, lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Lion (Chen et al. 2023): x <- x - lr (sign(beta1 m + (1 - beta1) g) + weight_decay x); then m averages g."""
    step = sign(beta1 * m + (1 - beta1) * g) + weight_decay * x
    return x - lr * step, beta2 * m + (1 - beta2) * g
