"""Every surface against autograd, its minima, its rotation; formulas and samples."""

from __future__ import annotations

import ast
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import rosen, rosen_der, rosen_hess

from mlcv_bench import race
from mlcv_bench.errors import UsageError
from mlcv_bench.expression import Writer, function_from, parse
from mlcv_bench.functions import FLOATS, TABLE
from mlcv_bench.names import load_specification
from mlcv_bench.report.races import sweep_report
from mlcv_bench.surface_race.race import lr_sweep
from mlcv_bench.surface_race.request import SweepRequest
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.catalog import find
from mlcv_bench.surfaces.finite_sum import batches
from mlcv_bench.surfaces.formula import as_code
from mlcv_bench.surfaces.surface import SURFACES, rotate

EXTRA = [
    "max(x^2, y^2 + x, 3)",
    "min(x^2, 2 y) + max(0, 1 - x)^2",
    "quadratic:dim=4,condition=50",
    "0.5*(x**2 + 100*y**2)",
    "x**4 - 3*x**2 + x*y + y**2 + sqrt(x**2 + 1)/3",
]


def on_tensors(surface):
    """Return the surface's value as a function of a tensor of coordinates, for autograd."""
    value = surface.value_by(TABLE)
    return lambda point: value(*point)


@pytest.mark.parametrize("degrees", [0.0, 30.0])
@pytest.mark.parametrize("name", [*SURFACES, *EXTRA])
def test_gradient_and_hessian_are_autograds(name, degrees):
    surface = find(name, rotate=degrees)
    for scale in (0.7, -0.4):
        point = torch.tensor([scale * part + 0.31 for part in surface.start], dtype=torch.float64)
        gradient = torch.autograd.functional.jacobian(on_tensors(surface), point)
        hessian = torch.autograd.functional.hessian(on_tensors(surface), point)
        ours = torch.tensor(surface.gradient(*point.tolist()), dtype=torch.float64)
        curved = torch.tensor(surface.hessian(*point.tolist()), dtype=torch.float64)
        assert torch.allclose(ours, gradient, rtol=1e-10, atol=1e-12 * float(gradient.abs().max()))
        assert torch.allclose(curved, hessian, rtol=1e-10, atol=1e-11 * float(hessian.abs().max()))


@pytest.mark.parametrize("name", SURFACES)
def test_minima_are_critical_and_lowest(name):
    surface = find(name)
    for point in (*surface.minima, *surface.local_minima):
        if name != "ackley":  # its tip is sharper than rounding
            assert max(map(abs, surface.gradient(*point))) < 1e-9
    if surface.minima:
        values = [surface.value(*point) for point in surface.minima]
        assert values == pytest.approx([surface.minimum] * len(values), abs=1e-12)
        grid = [low + (high - low) * i / 40 for low, high in surface.box[:1] for i in range(41)]
        if surface.dimension == 2:
            lowest = min(surface.value(x, y) for x in grid for y in grid)
            assert lowest >= surface.minimum - 1e-12


PUBLISHED = {
    "rosenbrock": ([(1.0, 1.0)], 0.0),
    "himmelblau": ([(3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)], 0.0),
    "beale": ([(3.0, 0.5)], 0.0),
    "rastrigin": ([(0.0, 0.0)], 0.0),
    "ackley": ([(0.0, 0.0)], 0.0),
    "three-hump-camel": ([(0.0, 0.0)], 0.0),
}
"""The global minima of surfaces of the literature and the value there, as surveys print them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_minima_are_the_published_ones(name):
    surface = find(name)
    points, value = PUBLISHED[name]
    assert [pytest.approx(point, abs=1e-6) for point in points] == list(surface.minima)
    assert surface.minimum == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 10, 64])
def test_rosenbrock_and_rastrigin_have_any_dimension(dim):
    chain, dents = find("rosenbrock", dim=dim), find("rastrigin", dim=dim)
    point = [0.1 * i - 1 for i in range(dim)]
    assert chain.value(*point) == pytest.approx(rosen(point), rel=1e-12)
    assert chain.gradient(*point) == pytest.approx(rosen_der(point), rel=1e-10, abs=1e-10)
    wanted = rosen_hess(point)
    assert np.array(chain.hessian(*point)) == pytest.approx(wanted, rel=1e-10, abs=1e-10)
    assert dents.value(*point) == pytest.approx(sum(v * v + 10 - 10 * math.cos(2 * math.pi * v) for v in point))
    assert (chain.minima, dents.minima) == (((1.0,) * dim,), ((0.0,) * dim,))
    assert find(f"rosenbrock:dim={dim}").start == chain.start


@pytest.mark.parametrize("name", SURFACES)
def test_a_rotated_twin_is_the_same_function_turned(name):
    plain, turned = find(name), find(name, rotate=37.0)
    assert turned.value(*rotate(plain.start, 37.0)) == pytest.approx(plain.value(*plain.start), rel=1e-12)
    assert turned.start == pytest.approx(rotate(plain.start, 37.0))
    for minimum in turned.minima:
        assert turned.value(*minimum) == pytest.approx(plain.minimum, abs=1e-12)


def test_quadratics_know_their_curvatures():
    for name in ("canyon", "regression", "0.5*(x**2 + 100*y**2) + x*y", "quadratic:dim=5"):
        surface = find(name)
        values = torch.linalg.eigvalsh(torch.tensor(surface.hessian(*surface.start), dtype=torch.float64))
        assert (surface.mu, surface.L) == pytest.approx((float(values[0]), float(values[-1])), rel=1e-12)


def test_a_formula_finds_its_minima():
    surface = find("(x**2 - 1)**2 + (y - 0.5)**2 + 0.1*x")
    assert len(surface.minima) == 1
    assert len(surface.local_minima) == 1
    assert surface.minima[0][0] < 0
    assert find("x**3 + y**2").minimum is None


@pytest.mark.parametrize(
    ("text", "minima"),
    [
        # The minimum at the kink (1, 0) is not (-2, 0), where a parabola with this Hessian has it.
        ("x**2 + 4*abs(x - 1) + y**2", ()),
        ("x**2 + abs(x) + y**2", ((0.0, 0.0),)),
        # A smooth local minimum that a kink between the grid's points undercuts is not called the lowest.
        ("0.4*abs(x + 0.085)*(x - 3)**2 + 0.1*x + y**2", ()),
        ("abs(x) + 1e-6*x**4 + y**2", ((0.0, 0.0),)),
    ],
)
def test_a_kink_is_no_parabola(text, minima):
    surface = find(text)
    assert surface.quadratic is None
    assert surface.minima == minima


def test_the_slope_at_a_kink_is_zero():
    surface = find("x**2 + abs(x) + y**2")
    assert surface.gradient(0.0, 1.0) == (0.0, 2.0)
    assert surface.gradient(-1e-280, 1.0) == (-1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "point", "value", "gradient"),
    [
        ("max(x^2, y^2, (x - 1)^2)", (2.0, 1.0), 4.0, (4.0, 0.0)),
        ("max(x^2, y^2, (x - 1)^2)", (0.0, -3.0), 9.0, (0.0, -6.0)),
        ("min(x, 2 y, 3)", (5.0, 1.0), 2.0, (0.0, 2.0)),
        # A kink has the mean of the slopes on both sides.
        ("max(x, 3 y)", (0.0, 0.0), 0.0, (0.5, 1.5)),
        ("2 max (0, 1 - x)^2 + y^2", (-1.0, 0.5), 8.25, (-8.0, 1.0)),
    ],
)
def test_max_and_min_take_two_values_or_more(text, point, value, gradient):
    surface = find(text)
    assert surface.value(*point) == value
    assert surface.gradient(*point) == gradient


def test_the_larger_of_two_bowls_is_lowest_on_the_ridge_between():
    assert find("max(abs(x), abs(y))").minima == ((0.0, 0.0),)
    found = race("max((x - 1)^2 + y^2, (x + 1)^2 + y^2)", ["sgd"], start=(0.5, 1.0), steps=5, protocols=("default",))
    # From (0.5, 1) the second bowl is the higher: x falls by 0.02 (x + 1).
    assert found.traces["sgd", "default"].point(1) == pytest.approx((0.5 - 0.03, 1.0 - 0.02), rel=1e-15)


def test_variables_stand_in_the_order_of_their_numbers():
    surface = find(" + ".join(f"(x{i} - {i})^2" for i in range(64)))
    assert surface.expressions.variables == tuple(f"x{i}" for i in range(64))
    assert surface.minima == (pytest.approx(range(64)),)
    assert surface.minimum == 0.0
    assert find("a10 + a9^2 + b").expressions.variables == ("a9", "a10", "b")


def test_many_variables_are_searched_over_hills():
    # The lower root of 4x^3 - 2x + 0.1 = 0 in each: x^4 - x^2 + 0.1 x is -0.32191934688 there.
    lowest = min((v**4 - v**2 + 0.1 * v, v) for v in np.roots([4, 0, -2, 0.1]).real)
    surface = find(" + ".join(f"x{i}^4 - x{i}^2 + 0.1 x{i}" for i in range(10)))
    assert surface.minimum == pytest.approx(10 * lowest[0], rel=1e-12)
    assert surface.minima == (pytest.approx([lowest[1]] * 10, rel=1e-9),)
    valley = find("(a + b + c + d - 3)^2 + (a - b)^2 + 7")
    assert (valley.minimum, valley.valley) == (7.0, True)
    assert valley.minima[0] == pytest.approx([0.75] * 4)


@pytest.mark.parametrize("name", ["E", "Ex", "Abs", "I"])
def test_a_variable_keeps_its_name(name):
    surface = find(f"2*{name}**2 + y**2 + e")
    assert surface.expressions.variables == (name, "y")
    assert surface.value(3.0, 1.0) == pytest.approx(19 + math.e)
    assert surface.L == 4.0


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("x^2 + 100 y^2", "x**2 + 100*y**2"),
        ("0.5*(x^2 + 100 y^2)", "0.5*(x**2 + 100*y**2)"),
        ("2x", "2*x"),
        ("2x^2y", "2*x**2*y"),
        ("x y^2", "x*y**2"),
        ("100(y - x^2)^2", "100*(y - x**2)**2"),
        ("100 (y - x^2)^2", "100*(y - x**2)**2"),
        ("(x + 1)(x - 1) y", "(x + 1)*(x - 1)*y"),
        ("x (y + 1)", "x*(y + 1)"),
        ("x1 (y + 1)", "x1*(y + 1)"),
        ("-2 exp(-x)", "-2*exp(-x)"),
        ("x sin(2 pi x) + 2e", "x*sin(2*pi*x) + 2*e"),
        ("1e3x + 2.5e-1y", "1e3*x + 2.5e-1*y"),
        ("2e-x", "2*e - x"),
        ("x^-2 y", "x**-2*y"),
        ("-x^2", "-(x**2)"),
        ("x^2^3", "x**(2**3)"),
        ("1/2 x^2", "1/2*x**2"),
        ("1/2 (x^2 + 3 y^2)", "1/2*(x**2 + 3*y**2)"),
        ("3 * 1/2 x y - x/2 + 3 y", "3*1/2*x*y - x/2 + 3*y"),
        ("x^2/2 + 3 y", "x**2/2 + 3*y"),
        ("exp(-(2 x)^2/(3 y + 1)) - 1", "exp(-(2*x)**2/(3*y + 1)) - 1"),
        ("xy + x", "xy + x"),
        ("x**2 + 100*y**2", "x**2 + 100*y**2"),
    ],
)
def test_a_formula_is_read_as_it_is_printed(typed, code):
    assert ast.dump(parse(as_code(typed))) == ast.dump(parse(code))


PRINTED = [name for name, build in SURFACES.items() if name != "quadratic" and build().finite_sum is None]
PRINTED += ["canyon:condition=7", "local-minima:depth=2,width=0.5", "washboard:force=0.3,amplitude=2"]
PRINTED += ["rastrigin:amplitude=3"]


@pytest.mark.parametrize("name", PRINTED)
def test_what_a_table_prints_can_be_typed(name):
    surface = find(name)
    writer = Writer()
    writer.assign_all(["f"], [parse(as_code(surface.formula))], {"x": "x0", "y": "x1"})
    typed = function_from("f", ["x0", "x1"], [*writer.lines, "return f"], FLOATS)
    for point in ((0.3, -0.7), (2.1, 1.4), (-1.9, 0.2)):
        assert typed(*point) == pytest.approx(surface.value(*point), rel=1e-12)


@given(st.text(alphabet="xye12.5^*+-/() sin_'[]=:;\\\n\t", max_size=25))
@settings(max_examples=300, deadline=None)
def test_whatever_is_typed_is_read_or_refused_in_a_sentence(text):
    try:
        tree = parse(as_code(text))
    except UsageError:
        return
    kinds = {type(node).__name__ for node in ast.walk(tree)}
    assert kinds <= {
        "BinOp",
        "UnaryOp",
        "Constant",
        "Name",
        "Load",
        "Call",
        "Add",
        "Sub",
        "Mult",
        "Div",
        "Pow",
        "USub",
        "UAdd",
    }


def test_e_is_the_constant_and_said_to_be():
    five = find("a^2 + b^2 + c^2 + d^2 + e^2")
    assert five.dimension == 4
    assert five.minimum == pytest.approx(math.e**2)
    (note,) = five.notes
    assert "e is the constant 2.71828; the variables are a, b, c, d." in note
    assert find("pi*x^2 + y^2").notes == find("E^2 + y^2").notes == ()
    assert note in race(five, ["sgd"], steps=3).report().notes
    assert note in sweep_report(lr_sweep(SweepRequest("a^2 + b^2 + c^2 + d^2 + e^2", ("sgd",), steps=3))).notes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x^2/2 y", "read in two ways"),
        ("1/2x", "read in two ways"),
        ("x^1/2 y", "read in two ways"),
        ("1/(x + 1)(y + 1)", "read in two ways"),
        ("sin x + y", r"sin takes brackets; write sin\(x\)"),
        ("x 2 + 1", "cannot be read"),
        ("sine (x) + y", "not arithmetic"),
        ("f(x) + y", "not arithmetic"),
        ("max(x) + y", "not arithmetic"),
        ("max(x, y, key=x)", "not arithmetic"),
        ("max x + y", r"max takes brackets"),
        (" + ".join(f"x{i}" for i in range(65)), "has 65 variables; a surface has one to 64"),
        ("9**max(1, 99999999) + x", "exponent .* too large"),
        (f"max({', '.join('xyz'[i % 3] for i in range(150))})", "nested"),
        ("x^(10^10)", "exponent"),
        ("2 __import__('os').system('true')", "not arithmetic"),
        ("(x).real (y)", "not arithmetic"),
        ("__import__('os').system('true')", "not arithmetic"),
        ("x.real + 1", "not arithmetic"),
        ("[x, 1]", "not arithmetic"),
        ("x if x > 0 else y*2", "not arithmetic"),
        ("sin(x, y) + 1", "not arithmetic"),
        ("x +", "cannot be read"),
        ("x**9999999 + y", "exponent"),
        ("1 + 2", "0 variables"),
        ("lambda x: x**2", "not installed"),
        ("+" * 3000 + "x", "characters"),
        ("canyn", "did you mean canyon"),
        ("canyon:condtion=3", "did you mean condition"),
        ("canyon:condition=0.5", "at least 1"),
        ("quadratic:dim=2.5", "whole number"),
        ("canyon:condition=nan", "finite"),
        ("math:pi", "is no surface"),
        ("regression:batch=97", "batch size"),
    ],
)
def test_a_wrong_surface_is_one_clear_sentence(text, says):
    with pytest.raises(UsageError, match=says):
        find(text)


def test_settings_that_do_not_belong_are_refused():
    with pytest.raises(UsageError, match="has no dim"):
        find("canyon", dim=3)
    with pytest.raises(UsageError, match="from 2 to 64"):
        find("rosenbrock", dim=1)
    with pytest.raises(UsageError, match="has no batch"):
        find("canyon", batch_size=3)
    with pytest.raises(UsageError, match="noise"):
        find("canyon", noise=-1.0)
    with pytest.raises(UsageError, match="cannot be rotated"):
        find("x**2 + 1", rotate=10.0)


LAND = """
import math
import numpy as np
import torch as t
from math import exp, hypot
from numpy import maximum

def bowl(x, y, a=1, height=3.0): return (x - a)**2 + height * y**2
def of_math(x, y): return math.cosh(1.0) * x**2 + math.cos(y) + exp(x) + math.hypot(x, y)
def of_numpy(x, y): return np.square(x) + np.exp(np.abs(y)) + maximum(x, y) * np.array([1.0, 2.0]).sum()
def of_torch(x, y): return t.tanh(x) + t.pow(y, 2) * t.pi
def largest(x, y): return max(x, y, 0) + min(x, 2 * y) + max([1, 2])
def imported(x, y): return hypot(x, 2 * y)
def helped(x, y): return of_math(x, y) + sum(v**2 for v in (x, y))
def many(*x, a=1.0): return a * sum((v - 1)**2 for v in x)

def branches(x, y): return x if x > 0 else y
def vector(p): return p[0]**2
def summed(x, y): return t.sum(x)
def nothing(x, y): pass
def array(x, y): return np.array([x, y])
def defaults(x=1.0): return x
"""


@pytest.fixture(scope="module")
def land(tmp_path_factory):
    path = tmp_path_factory.mktemp("land") / "land.py"
    path.write_text(LAND)
    return path


def test_defaults_of_a_functions_arguments_are_settings(land):
    surface = find(f"{land}:bowl")
    assert surface.minima[0] == pytest.approx((1.0, 0.0))
    assert surface.L == 6.0
    other = find(f"{land}:bowl:a=2,height=5")
    assert other.minima[0] == pytest.approx((2.0, 0.0))
    assert (other.L, other.name) == (10.0, f"{land}:bowl:a=2,height=5")
    assert find(f"{land}:many:a=2", dim=12).minima[0] == pytest.approx([1.0] * 12)
    for name, says in [("bowl:b=3", "has no b; it takes a, height"), ("many:dim=65", "up to 64, not 65")]:
        with pytest.raises(UsageError, match=says):
            find(f"{land}:{name}")
    with pytest.raises(UsageError, match="dim must be a whole number from 3 up to 64, not 2"):
        find(lambda x, y, *rest: x * x + y * y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("of_math", lambda x, y: math.cosh(1) * x * x + math.cos(y) + math.exp(x) + math.hypot(x, y)),
        ("of_numpy", lambda x, y: x * x + math.exp(abs(y)) + 3 * max(x, y)),
        ("of_torch", lambda x, y: math.tanh(x) + y * y * math.pi),
        ("largest", lambda x, y: max(x, y, 0) + min(x, 2 * y) + 2),
        ("imported", lambda x, y: math.hypot(x, 2 * y)),
        ("helped", lambda x, y: math.cosh(1) * x * x + math.cos(y) + math.exp(x) + math.hypot(x, y) + x * x + y * y),
    ],
)
def test_functions_of_libraries_are_traced(land, name, value):
    surface = find(f"{land}:{name}")
    for point in ((0.3, -0.7), (-2.0, 1.5), (1.1, 0.4)):
        assert surface.value(*point) == pytest.approx(value(*point), rel=1e-12)
    # Afterwards the user's module is as it was.
    home = load_specification(f"{land}:{name}").__globals__
    assert (home["math"], home["np"], home["exp"], "max" in home) == (math, np, math.exp, False)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("branches", "truth value.*without if"),
        ("vector", "not subscriptable.*one argument a coordinate"),
        ("summed", "must be Tensor.*mlcv_bench.functions"),
        ("nothing", "returns NoneType, where a surface has one number"),
        ("array", "returns ndarray, where a surface has one number"),
        ("defaults", "returned float; with defaults for all its arguments"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_the_way_out(land, name, says):
    with pytest.raises(UsageError, match=says):
        find(f"{land}:{name}")


@pytest.mark.parametrize("name", ["saddle", "local-minima", "himmelblau", "washboard", "washboard:force=0.9"])
def test_every_minimum_in_the_box_is_listed(name):
    surface = find(name)
    sides = [np.linspace(low, high, 121) for low, high in surface.box]
    values = np.array([[surface.value(x, y) for y in sides[1]] for x in sides[0]])
    around = [np.roll(values, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    found = np.argwhere(np.all([values < other for other in around], axis=0)[1:-1, 1:-1]) + 1
    listed = [*surface.minima, *surface.local_minima]
    cell = [side[1] - side[0] for side in sides]
    for row, column in found:
        place = sides[0][row], sides[1][column]
        assert any(all(abs(a - b) <= 2 * c for a, b, c in zip(place, one, cell, strict=True)) for one in listed)
    assert len(found) == len(listed)


@pytest.mark.parametrize(("samples", "size"), [(96, 8), (97, 8), (10, 3), (10, 10), (7, 1)])
def test_an_epoch_shuffles_and_sees_every_sample_once(samples, size):
    surface = find(f"regression:samples={samples},batch={size}")
    per_epoch = math.ceil(samples / size)
    found = batches(surface, seed=0, start=0, steps=2 * per_epoch)
    for epoch in (found[:per_epoch], found[per_epoch:]):
        assert sorted(i for batch in epoch for i in batch) == list(range(samples))
        assert [len(batch) for batch in epoch[:-1]] == [size] * (per_epoch - 1)
    if size < samples and samples > 7:
        assert found[:per_epoch] != found[per_epoch:]


def test_full_batches_have_no_noise():
    assert not find("regression", batch_size=96).stochastic
    assert find("regression", batch_size=8).stochastic


NUMBERS = st.floats(-3, 3).map(lambda value: round(value, 3))
TREES = st.recursive(
    st.sampled_from(["x", "y", "2", "0.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda text: f"({text})**2"),
        inner.map(lambda text: f"sin({text})"),
        inner.map(lambda text: f"(-{text})"),
    ),
    max_leaves=8,
)


@given(text=TREES, x=NUMBERS, y=NUMBERS)
@settings(max_examples=60, deadline=None)
def test_written_code_means_what_the_formula_says(text, x, y):
    writer = Writer()
    writer.assign_all(["f"], [parse(text)], {"x": "a", "y": "b"})
    place = {"a": x, "b": y, "sin": math.sin}
    exec("\n".join(writer.lines), place)  # noqa: S102 - the very code under test
    wanted = eval(text, {"x": x, "y": y, "sin": math.sin})  # noqa: S307 - written by this test
    assert place["f"] == pytest.approx(wanted, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", SURFACES)
def test_a_used_surface_goes_to_another_process(name):
    surface = find(name)
    value = surface.value(*surface.start)
    sent = pickle.loads(pickle.dumps(surface))  # noqa: S301 - written in the same line
    assert sent == surface
    assert sent.value(*sent.start) == value


def test_names_and_formulas_are_told_apart():
    assert all(map(catalog.looks_like_formula, ["x**2", "2x", "x^2", "100 y"]))
    assert catalog.looks_like_formula("-" * 3000 + "x")
    assert not catalog.looks_like_formula("local-minima")
    assert not catalog.looks_like_formula("package.module:thing")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("9**9**9**9*x", "exponent .* too large"),
        ("x + 2**(10**10)", "exponent .* too large"),
        ("x + ((10**60)**60)", "too large for a number"),
        ("x + exp(exp(100))", "too large for a number"),
        ("x**2 + 1e999", "too large for a number"),
        ("x**2 + nan", "nan is no finite number"),
        ("+".join(["x"] * 900), "nested"),
        ("exp(" * 150 + "x" + ")" * 150, "nested"),
    ],
)
def test_a_formula_that_would_never_end_or_overflow_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse(text)
