"""Fitted parameters as the features of a scikit-learn pipeline."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit

pytest.importorskip("sklearn")
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline

pytestmark = pytest.mark.ecosystem
T = np.linspace(0.0, 4.0, 40)
RNG = np.random.default_rng(3)
RATES = RNG.uniform(0.5, 2.0, 300)
DECAYS = 2.0 * np.exp(-RATES[:, None] * T) + 0.02 * RNG.normal(size=(300, T.size))
DECAYS += np.where(RNG.random(DECAYS.shape) < 0.05, RNG.exponential(1.0, DECAYS.shape), 0.0)
CONCENTRATION = 3.0 * RATES - 1.0


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


class Decays(TransformerMixin, BaseEstimator):
    """Each row of X by its amplitude and rate."""

    def __init__(self, loss="linear", f_scale=0.05):
        self.loss = loss
        self.f_scale = f_scale

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        options = {"loss": self.loss, "f_scale": self.f_scale}
        return fit(decay, T, X, [1.0, 1.0], **options).x

    def get_feature_names_out(self, input_features=None):
        return np.array(["amplitude", "rate"], dtype=object)


def pipeline():
    return make_pipeline(Decays(), LinearRegression())


def test_a_pipeline_and_its_clone():
    robust = pipeline().set_params(decays__loss="soft_l1").fit(DECAYS[:200], CONCENTRATION[:200])
    predicted = robust.predict(DECAYS[200:])
    x = fit(decay, T, DECAYS, [1.0, 1.0], loss="soft_l1", f_scale=0.05).x
    columns = np.column_stack([x, np.ones(300)])
    by_hand = np.linalg.lstsq(columns[:200], CONCENTRATION[:200], rcond=None)[0]
    np.testing.assert_allclose(predicted, columns[200:] @ by_hand, rtol=1e-6)
    assert np.median(np.abs(predicted - CONCENTRATION[200:])) < 0.1
    copy = clone(robust)
    assert copy.get_params()["decays__loss"] == "soft_l1"
    copy.fit(DECAYS[:200], CONCENTRATION[:200])
    np.testing.assert_array_equal(copy.predict(DECAYS[200:]), predicted)


def test_tables_come_out():
    pandas = pytest.importorskip("pandas")
    transformer = Decays().set_output(transform="pandas")
    table = pandas.DataFrame(DECAYS, index=[f"s{k}" for k in range(300)])
    out = transformer.fit_transform(table)
    assert list(out.columns) == ["amplitude", "rate"]
    assert list(out.index) == list(table.index)
    np.testing.assert_array_equal(out, fit(decay, T, DECAYS, [1.0, 1.0]).x)


def test_a_search_for_the_loss():
    folds = KFold(4, shuffle=True, random_state=0)
    losses = ["linear", "soft_l1", "cauchy"]
    search = GridSearchCV(pipeline(), {"decays__loss": losses}, cv=folds)
    search.fit(DECAYS, CONCENTRATION)
    assert search.best_params_["decays__loss"] != "linear"  # there are outliers
    assert search.best_score_ > 0.95
    scores = dict(zip(losses, search.cv_results_["mean_test_score"], strict=True))
    again = cross_val_score(pipeline(), DECAYS, CONCENTRATION, cv=folds)
    assert scores["linear"] == pytest.approx(again.mean(), rel=1e-9)
