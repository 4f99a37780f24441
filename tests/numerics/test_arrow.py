"""The arrow of data sets that share parameters, against the same matrix written out."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.numerics.arrow import Arrow
from jaxlsq.numerics.linear_model import Box, Region
from jaxlsq.numerics.members import Members
from jaxlsq.numerics.normal import Normal

OWN, SETS, POINTS = 2, 4, 7
DAMPING = 0.3
pytestmark = pytest.mark.usefixtures("x64")


class Written:
    """Jacobians of data sets, the whole matrix, and the arrow of it; problems may be three."""

    def __init__(self, slots, problems=()):
        rng = np.random.default_rng(0)
        q, self.shared = len(slots), int(np.max(slots)) + 1
        jac = rng.normal(size=(SETS, POINTS, OWN + q))
        f = rng.normal(size=(SETS, POINTS))
        self.columns = np.empty((OWN + q, SETS), int)
        for j in range(OWN):
            self.columns[j] = self.shared + j * SETS + np.arange(SETS)
        self.columns[OWN:] = slots
        whole = np.zeros((SETS, POINTS, self.shared + OWN * SETS))
        for i in range(SETS):
            for j in range(OWN + q):
                whole[i, :, self.columns[j, i]] += jac[i, :, j]
        whole = whole.reshape(SETS * POINTS, -1)
        self.gram, self.gradient = whole.T @ whole, whole.T @ f.ravel()
        self.fnorm = np.linalg.norm(f)
        every = slots is not None and np.array_equal(slots, np.arange(q)[:, None] + 0 * slots)

        def several(array):
            array = jnp.asarray(array)
            return jnp.broadcast_to(array.reshape(*array.shape, *(1,) * len(problems)),
                                    (*array.shape, *problems))  # fmt: skip

        self.several = several
        members = Members(several(np.ones(SETS, bool)), None if every else several(slots))
        gram = several(np.einsum("kmi,kmj->ijk", jac, jac))
        gradient = several(np.einsum("kmi,km->ik", jac, f))
        self.arrow = Arrow.of(gram, gradient, members, self.shared)
        self.rng = rng

    @property
    def n(self):
        return len(self.gradient)


SLOTS = {
    "all share all": np.array([[0] * SETS, [1] * SETS]),
    "groups": np.array([[0, 0, 1, 1], [2, 2, 2, 2]]),
    "one": np.zeros((1, SETS), int),
}


@pytest.fixture(params=SLOTS)
def written(request):
    return Written(SLOTS[request.param])


@pytest.mark.long_but("groups")
def test_the_damped_problem_with_some_parameters_pinned(written):
    free = np.ones(written.n, bool)
    free[[0, 3, 4]] = False
    pinned = np.where(free, 0.0, written.rng.normal(size=written.n))
    matrix = written.gram + DAMPING * np.eye(written.n)
    rest = (written.gradient - matrix @ pinned)[free]
    expected = pinned.copy()
    expected[free] = np.linalg.solve(matrix[np.ix_(free, free)], rest)
    multipliers = written.gradient - matrix @ expected
    value, solved = written.arrow.solve(jnp.asarray(DAMPING), free, pinned)
    np.testing.assert_allclose(value, np.where(free, expected, multipliers), rtol=1e-11)
    q = np.where(free, written.rng.normal(size=written.n), 0.0)
    spread = np.sqrt(q[free] @ np.linalg.solve(matrix[np.ix_(free, free)], q[free]))
    np.testing.assert_allclose(written.arrow.spread(solved, q), spread, rtol=1e-11)


@pytest.mark.long_but("groups")
def test_blocks_of_the_inverse_and_inflations(written):
    everything = np.ones(written.n, bool)
    _, solved = written.arrow.solve(jnp.asarray(0.0), everything, np.zeros(written.n))
    inverse = np.linalg.inv(written.gram)
    blocks = solved.inverse_blocks(written.arrow.members)
    for i in range(SETS):
        block = inverse[np.ix_(written.columns[:, i], written.columns[:, i])]
        np.testing.assert_allclose(blocks[..., i], block, rtol=1e-10)
    expected = np.diag(inverse) * np.diag(written.gram)
    np.testing.assert_allclose(written.arrow.inflations(solved), expected, rtol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("boxed", [False, True])
def test_its_steps_are_those_of_the_whole_matrix(written, boxed):
    n, one = written.n, jnp.ones(())
    whole = Normal(jnp.asarray(written.gram), jnp.asarray(written.gradient), one, jnp.ones(n))
    scale = jnp.asarray(written.rng.uniform(0.5, 2.0, n))
    for bound in (0.1, 1.0, 100.0):
        region = Region(scale, jnp.asarray(written.fnorm), one * bound, one * 0.0)
        box = Box(-jnp.full(n, 0.05), jnp.asarray(written.rng.uniform(0.0, 0.2, n)))
        steps = [
            model.step_in_box(box, region) if boxed else model.step(region)
            for model in (written.arrow, whole)
        ]
        np.testing.assert_allclose(steps[0].p, steps[1].p, rtol=1e-8, atol=1e-12)
        for name in ("damping", "step_norm", "model", "damped"):
            first, second = (getattr(step, name) for step in steps)
            np.testing.assert_allclose(first, second, rtol=1e-7, atol=1e-13)
        assert steps[0].rank == 1
    np.testing.assert_allclose(
        written.arrow.cosines(written.fnorm), whole.cosines(written.fnorm), rtol=1e-12
    )


@pytest.mark.long
@pytest.mark.parametrize("name", SLOTS)
def test_problems_side_by_side_have_dampings_of_their_own(name):
    alone, several = Written(SLOTS[name]), Written(SLOTS[name], (3,))
    dampings = jnp.array([0.0, 0.3, 2.0])
    free = np.ones(alone.n, bool)
    value, _ = several.arrow.solve(
        dampings, several.several(free), several.several(np.zeros(alone.n))
    )
    for k, damping in enumerate(dampings):
        expected, _ = alone.arrow.solve(damping, free, np.zeros(alone.n))
        np.testing.assert_allclose(value[:, k], expected, rtol=1e-12)


@pytest.mark.long
def test_places_without_a_data_set_change_nothing():
    gram = np.eye(3)[:, :, None] * np.array([1.0, 2.0, 5.0])
    gradient = np.ones((3, 3))
    found = {}
    for live in ([True, True], [True, True, False]):
        k = len(live)
        members = Members(jnp.array(live), None)
        arrow = Arrow.of(jnp.asarray(gram[..., :k]), jnp.asarray(gradient[:, :k]), members, 1)
        n = 1 + 2 * k
        value, solved = arrow.solve(jnp.asarray(0.0), np.ones(n, bool), np.zeros(n))
        found[k] = value[:1], float(arrow.rank(solved, np.ones(n, bool)))
    np.testing.assert_allclose(found[2][0], found[3][0], rtol=0)
    assert found[2][1] == found[3][1] == 1.0


def test_what_is_not_determined_stays_and_is_told():
    gram = np.array([[1.0, 1.0], [1.0, 1.0]])[:, :, None] * np.ones(3)  # own and shared are one
    members = Members(jnp.ones(3, bool), None)
    arrow = Arrow.of(jnp.asarray(gram), jnp.ones((2, 3)), members, 1)
    value, solved = arrow.solve(jnp.asarray(0.0), np.ones(4, bool), np.zeros(4))
    assert np.isfinite(value).all()
    assert float(arrow.rank(solved, np.ones(4, bool))) == 0.0
