"""Every update rule of the course notes, each written once and run on floats, numba lanes and torch tensors.

A rule is a function `NAME(x, g, t, *slots, *hyperparameters)` of one parameter `x`, its gradient `g` and the number of
the step `t` = 1, 2, ... Names after `t` without a default are state slots, zero before the first step; names with one
are hyperparameters. It returns the new parameter and the new slots, written with `+ - * / **`, the functions of
`mlcv_bench.functions` and calls of other rules. A rule that wants its gradient elsewhere than at `x` has a function
`NAME_lookahead`. A rule whose second parameter is `newton_direction` gets (H + damping I)^-1 g there.

The notes count steps from 0 and debias with 1 - beta^(t+1); `t` here is that t + 1.
"""


def sgd(x, g, t, lr=0.01):
    """Gradient descent, notes 1.1: x <- x - lr g."""
    return x - lr * g


def momentum(x, g, t, v, lr=0.01, momentum=0.9):
    """Heavy ball, notes 1.3 (Polyak 1964): v <- momentum v - lr g; x <- x + v."""
    v = momentum * v - lr * g
    return x + v, v


heavy_ball = momentum  # a name that nesterov's hyperparameter does not hide


def nesterov(x, g, t, v, lr=0.01, momentum=0.9):
    """Nesterov momentum, notes 1.3 (Nesterov 1983): as momentum, with the gradient taken at x + momentum v."""
    return heavy_ball(x, g, t, v, lr, momentum)


def nesterov_lookahead(x, v, momentum=0.9):
    """The look-ahead: where momentum alone would carry x."""
    return x + momentum * v


def adagrad(x, g, t, s, lr=0.01, eps=1e-8):
    """AdaGrad, notes 1.4.1 (Duchi et al. 2011): s <- s + g^2; x <- x - lr g / (sqrt(s) + eps)."""
    s = s + g * g
    return x - lr / (s**0.5 + eps) * g, s


def rmsprop(x, g, t, s, lr=0.01, beta=0.9, eps=1e-8):
    """RMSProp, notes 1.4.2 (Hinton 2012): s <- beta s + (1 - beta) g^2; x <- x - lr g / (sqrt(s) + eps)."""
    s = beta * s + (1 - beta) * g * g
    return x - lr / (s**0.5 + eps) * g, s


def adam(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam, notes 1.4.3 (Kingma and Ba 2015): x <- x - lr m' / (sqrt(s') + eps), m' and s' debiased averages."""
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps), m, s


def adam_l2(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """Adam with L2 regularization, notes 1.4.4: the term weight_decay x joins the gradient that Adam averages."""
    return adam(x, g + weight_decay * x, t, m, s, lr, beta1, beta2, eps)


def adamw(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-5):
    """AdamW, notes 1.4.4: Adam's step, then - weight_decay x, which is not multiplied by lr."""
    moved, m, s = adam(x, g, t, m, s, lr, beta1, beta2, eps)
    return moved - weight_decay * x, m, s


def adamw_torch(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """AdamW as in libraries, see notes 1.4.4 (Loshchilov and Hutter 2019): Adam's step, then - lr weight_decay x."""
    moved, m, s = adam(x, g, t, m, s, lr, beta1, beta2, eps)
    return moved - lr * weight_decay * x, m, s


def newton(x, newton_direction, t, lr=1.0, damping=0.0):
    """Newton's method, notes 1.2: x <- x - lr (H + damping I)^-1 g."""
    return x - lr * newton_direction
