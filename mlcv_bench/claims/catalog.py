"""The table of claims: ids, sections, remarks in our own words, expected verdicts. Loads no experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.claims.claim import Claim, Verdict
from mlcv_bench.errors import UsageError
from mlcv_bench.names import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence


def _claims(section: str, module: str, rows: Sequence[tuple[str, Verdict, str, str, bool]]) -> list[Claim]:
    return [
        Claim(
            f"{section}-{name}",
            section,
            remark,
            f"mlcv_bench.claims.{module}:{name.replace('-', '_')}",
            expected,
            quick=quick,
            limit=limit,
        )
        for name, expected, remark, limit, quick in rows
    ]


def _row(
    name: str, expected: Verdict, remark: str, *, limit: str = "", quick: bool = True
) -> tuple[str, Verdict, str, str, bool]:
    return name, expected, remark, limit, quick


_TABLE = [
    *_claims(
        "1.1",
        "sgd",
        [
            _row(
                "epoch",
                "holds_with_limit",
                "An epoch shuffles, then takes U = ceil(N/B) steps.",
                limit="U batches are u = 0 .. U-1; the notes let u run to U",
            ),
            _row("noise", "holds", "A mini-batch gradient is a noisy approximation of the full one."),
            _row(
                "sphere", "holds_with_limit", "On a sphere a larger learning rate is faster.", limit="up to eta = 1/L"
            ),
            _row(
                "no-direction",
                "holds_with_limit",
                "Descent works better where no direction is preferred, as on a sphere.",
                limit="not on every convex function, as a canyon is one",
            ),
            _row(
                "canyon-oscillation",
                "holds_with_limit",
                "Gradient descent oscillates in a canyon.",
                limit="from eta = 1/L on",
            ),
            _row("canyon-loss-hides", "holds", "The loss alone falls and does not show the oscillation."),
            _row("canyon-lr", "holds", "A canyon needs a smaller learning rate, and is slower."),
            _row(
                "critical-points",
                "holds_with_limit",
                "Descent may end in a saddle or a local minimum.",
                limit="a strict saddle from its ridge alone",
            ),
        ],
    ),
    *_claims(
        "1.2",
        "newton",
        [
            _row(
                "parabola",
                "holds_with_limit",
                "In one dimension Newton fits a parabola and goes to its minimum.",
                limit="where the curvature is positive; elsewhere it climbs to the top",
            ),
            _row("one-step", "holds", "Second-order methods reach a quadratic's minimum in one step."),
            _row(
                "learning-rate",
                "holds_with_limit",
                "A second-order step may be scaled by a learning rate.",
                limit="below 2; any rate but 1 gives up arriving in one step",
            ),
            _row("saddle", "holds", "(Not in the notes.) Newton is drawn to saddles as to minima."),
            _row("cost", "holds", "The Hessian needs O(k^2) memory and the solve O(k^3) time."),
        ],
    ),
    *_claims(
        "1.3",
        "momentum",
        [
            _row(
                "faster",
                "holds_with_limit",
                "Momentum converges before SGD on a sphere and a canyon.",
                limit="on a sphere only below eta = 0.051 (mu = 0.9); tuned descent needs one step",
            ),
            _row("conditioning", "holds", "Momentum counteracts a badly conditioned Hessian."),
            _row(
                "weighted-average",
                "holds_with_limit",
                "The velocity is a weighted average of past steps.",
                limit="a sum, whose weights add up to 1/(1-mu)",
            ),
            _row(
                "low-pass",
                "holds_with_limit",
                "Momentum lowers the variance of the gradient, as a low-pass filter.",
                limit="not the place's variance at equal eta/(1-mu)",
            ),
            _row(
                "nesterov",
                "holds_with_limit",
                "Nesterov momentum is faster than standard momentum.",
                limit="at equal mu and eta below 4/(3L), past which it diverges; each tuned, heavy ball is faster",
            ),
            _row(
                "obsolete-gradient",
                "holds_with_limit",
                "Once mu v is added to theta, the gradient at theta is obsolete.",
                limit="up to eta L = 1; past it every step turns back",
            ),
            _row(
                "no-lookahead",
                "holds_with_limit",
                "Nesterov can be written without the gradient at theta + mu v.",
                limit="in torch.optim's form at a constant rate alone",
            ),
        ],
    ),
    *_claims(
        "1.4",
        "adaptive",
        [
            _row("adaptive", "holds", "With axis-aligned curvature one rate a parameter makes a canyon a sphere."),
            _row(
                "landscape",
                "holds_with_limit",
                "A high-dimensional loss cannot be seen, so that rates are adjusted automatically.",
                limit="one rate is still chosen by hand",
            ),
            _row("epsilon", "holds", "AdaGrad, RMSProp and Adam add epsilon outside the root."),
            _row(
                "adagrad-monotone",
                "holds_with_limit",
                "AdaGrad's s only grows, so that its rate falls too early.",
                limit="under gradient noise; without it the rate settles",
            ),
            _row(
                "adagrad-stops",
                "holds_with_limit",
                "AdaGrad stops before it gets close to the minimum.",
                limit="at SGD's rate; at its own best rate it arrives",
            ),
            _row(
                "rmsprop",
                "holds_with_limit",
                "RMSProp is faster than SGD at first, then alike.",
                limit="with beta = 0.99 and gradients below 1; with 0.9 it is behind at first",
            ),
            _row(
                "adam-debias",
                "holds_with_limit",
                "Without debiasing Adam's first steps are mis-scaled.",
                limit="the first step is too long, not too short",
            ),
            _row(
                "adam-bound",
                "holds_with_limit",
                "Adam's ratio of averages is bounded, and more controlled than RMSProp's.",
                limit="by 7.27, above the paper's 3.16; than RMSProp's at the same beta alone",
            ),
            _row(
                "adam-axis",
                "holds_with_limit",
                "Adam assumes unrelated parameters and slows where that fails.",
                limit="by little at kappa = 100 to the first step on target, once tuned",
            ),
            # Digits leave no room: tuned alike, the seeds scatter by more than the two differ.
            _row("nesterov-beats-adam", "not_decided", "In computer vision tuned Nesterov beats Adam.", quick=False),
            _row("large-basins", "holds", "Momentum escapes small basins."),
            _row(
                "adamw",
                "holds_with_limit",
                "L2 in Adam is not weight decay; in SGD it is.",
                limit="not in SGD with momentum",
            ),
            _row("adamw-forms", "holds", "The notes subtract lambda theta, libraries eta lambda theta."),
        ],
    ),
    *_claims(
        "2.1",
        "inception",
        [
            _row(
                "cheap",
                "holds_with_limit",
                "Inception-v1 takes few parameters and few FLOPs.",
                limit="more MACs than AlexNet's",
            ),
            _row("stem", "holds", "The stem takes 224 to 28 in five layers; the largest kernel is 7x7 with stride 2."),
            _row(
                "module",
                "holds",
                "A module stacks 1x1, 3x3, 5x5 and max pooling, each with a 1x1, and keeps height and width.",
            ),
            _row("auxiliary", "holds", "The auxiliary softmaxes are discarded during inference."),
            _row(
                "auxiliary-position", "holds", "The auxiliary softmaxes judge hidden features, after modules 4a and 4d."
            ),
            _row("gap", "holds", "Global average pooling saves the parameters of a large linear layer."),
        ],
    ),
    *_claims(
        "2.2",
        "residual",
        [
            _row(
                "identity",
                "holds_with_limit",
                "With small weights a residual network starts as the identity.",
                limit="if the last batch norm starts at zero",
            ),
            _row("batch-norm", "holds", "Batch normalization is heavily used."),
            _row(
                "skip-before-relu",
                "holds",
                "The skip is added before the ReLU; after it only positive values could be.",
            ),
            _row("deep", "holds", "Residual networks train where plain ones of the same depth do not.", quick=False),
            _row(
                "stage",
                "holds_with_limit",
                "A stage's first block halves the sides and doubles the channels.",
                limit="not the first stage, which follows a max pool",
            ),
            _row(
                "bottleneck",
                "holds_with_limit",
                "A bottleneck compresses by 4, strides in its first 1x1, and costs about as much as a standard block.",
                limit="a stage's first block compresses by 2",
            ),
            _row(
                "inception-resnet-a",
                "holds",
                "In Inception-ResNet-A three 1x1 lead to the concatenation, to a 3x3 and to two 3x3.",
            ),
            _row(
                "inception-resnet-b",
                "holds_with_limit",
                "In Inception-ResNet-B 1x1 convolutions lead to the concatenation and to 1x7 and 7x1.",
                limit="there are two of them; the notes say three",
            ),
            _row("factorised", "holds", "Two 3x3 are a factorised 5x5, and 1x7 with 7x1 a factorised 7x7."),
        ],
    ),
    *_claims(
        "2.3",
        "resnext",
        [
            _row(
                "split-transform-merge",
                "holds",
                "Multi-branch modules split, transform and merge; Inception's are designed by hand.",
            ),
            _row(
                "grouped",
                "holds_with_limit",
                "G groups take G times fewer parameters and FLOPs.",
                limit="biases are not divided",
            ),
            _row("grouped-blocks", "holds", "A grouped convolution works on chunks with kernels of their own."),
            _row("grouped-kernels", "holds", "Each group has C_out/G kernels of C_in/G channels."),
            _row("branching", "holds", "The branching of a ResNeXt block is not a grouped convolution."),
            _row("forms", "holds", "A ResNeXt block's three forms are one function."),
            # As above, with 1.7 points on a thousand classes of ImageNet for the effect.
            _row("more-groups", "not_decided", "With the same FLOPs more groups are better.", quick=False),
            _row("width", "holds", "The d that costs as much as a ResNet follows from G by a second-order equation."),
            _row("like-bottleneck", "holds", "A ResNeXt block is similar to a bottleneck."),
            _row("less-expressive", "holds", "A grouped convolution is less expressive than one on the full input."),
        ],
    ),
]

CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _TABLE}
"""Every claim by its id, in the order of the notes."""


def select(ids: Sequence[str], sections: Sequence[str], *, everything: bool) -> list[Claim]:
    """Return the claims that are asked for: by id, by section, or all the quick ones.

    Raises:
        UsageError: no claim has this id or section.

    """
    for name in ids:
        if name not in CLAIMS:
            raise unknown("claim", name, CLAIMS, listing="claims")
    known = sorted({claim.section for claim in CLAIMS.values()})
    for section in sections:
        if not any(belongs(claim, section) for claim in CLAIMS.values()):
            raise UsageError(f"no claim belongs to section {section}; there are {', '.join(known)}")
    if ids:
        return [CLAIMS[name] for name in dict.fromkeys(ids)]
    return [
        claim
        for claim in CLAIMS.values()
        if (everything or claim.quick) and (not sections or any(belongs(claim, section) for section in sections))
    ]


def belongs(claim: Claim, section: str) -> bool:
    """Tell whether a claim stands in a section: 1 holds 1.4, and 1.4 holds 1.4.1."""
    return claim.section == section or claim.section.startswith(f"{section}.")
