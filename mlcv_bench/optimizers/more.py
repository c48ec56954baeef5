"""Update rules of the field beyond the notes, each with its paper, written as those of rules.py are.

To add one, write its function here and a row of its published implementation in tests/optimizers/test_more.py. These
rules run wherever the notes' do, and in a race where they are named.
"""

from mlcv_bench.functions import maximum, sign


def lion(x, g, t, m, lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Lion (Chen et al. 2023): x <- x - lr (sign(beta1 m + (1 - beta1) g) + weight_decay x); then m averages g."""
    step = sign(beta1 * m + (1 - beta1) * g) + weight_decay * x
    return x - lr * step, beta2 * m + (1 - beta2) * g


def adadelta(x, g, t, s, u, lr=1.0, beta=0.9, eps=1e-6):
    """Adadelta (Zeiler 2012): x <- x - lr d, d = sqrt(u + eps) / sqrt(s + eps) g; s averages g^2, u averages d^2."""
    s = beta * s + (1 - beta) * g * g
    step = ((u + eps) / (s + eps)) ** 0.5 * g
    return x - lr * step, s, beta * u + (1 - beta) * step * step


def adamax(x, g, t, m, u, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adamax (Kingma and Ba 2015): x <- x - lr m' / u, m' debiased, u the largest |g| that fades by beta2 a step."""
    m = beta1 * m + (1 - beta1) * g
    u = maximum(beta2 * u, abs(g) + eps)
    return x - lr * (m / (1 - beta1**t)) / u, m, u


def amsgrad(x, g, t, m, s, largest, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """AMSGrad (Reddi et al. 2018): Adam's step with the largest average of g^2 so far in place of the latest."""
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    largest = maximum(largest, s)
    return x - lr * (m / (1 - beta1**t)) / ((largest / (1 - beta2**t)) ** 0.5 + eps), m, s, largest


def nadam(x, g, t, m, s, p, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=0.004):
    """NAdam (Dozat 2016): Adam whose averaged gradient looks a step ahead, with a momentum that warms up to beta1."""
    now = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    following = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    # p is 1 less the product of all momenta up to now: slots begin at zero.
    p = 1 - (1 - p) * now
    ahead = (1 - now) * g / p + following * m / (1 - (1 - p) * following)
    return x - lr * ahead / ((s / (1 - beta2**t)) ** 0.5 + eps), m, s, p


def radam(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """RAdam (Liu et al. 2020): Adam's step, rectified once its variance is finite; before that, momentum's."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    known = sign(maximum(length - 5, 0))
    # The paper's r_t; nothing is known where longest is below 5.
    wide = maximum(longest, 5)
    rectified = known * abs((length - 4) * (length - 2) * wide / ((wide - 4) * (wide - 2) * length)) ** 0.5
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    scale = rectified * (1 - beta2**t) ** 0.5 / (s**0.5 + eps) + (1 - known)
    return x - lr * (m / (1 - beta1**t)) * scale, m, s


def adabelief(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """AdaBelief (Zhuang et al. 2020): Adam that averages the square of g - m in place of that of g."""
    m = beta1 * m + (1 - beta1) * g
    surprise = g - m
    s = beta2 * s + (1 - beta2) * surprise * surprise + eps
    return x - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps), m, s


def adan(x, g, t, m, d, s, previous, lr=0.001, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8, weight_decay=0.0):
    """Adan (Xie et al. 2022): averages g in m, its change in d, and the square of both together in s, all debiased."""
    change = sign(t - 1) * (g - previous)  # the first step has no gradient before it
    ahead = g + beta2 * change
    m = beta1 * m + (1 - beta1) * g
    d = beta2 * d + (1 - beta2) * change
    s = beta3 * s + (1 - beta3) * ahead * ahead
    step = (m / (1 - beta1**t) + beta2 * d / (1 - beta2**t)) / ((s / (1 - beta3**t)) ** 0.5 + eps)
    return (x - lr * step) / (1 + lr * weight_decay), m, d, s, g
