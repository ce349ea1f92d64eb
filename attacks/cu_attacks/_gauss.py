"""What one record's signal looks like over models: a centre and a spread for each record, fitted in one of four ways.

The likelihood-ratio attacks differ only in how they fit this law. Values are averaged over augmented queries first, so
that a record has one number a model and one-sided tails stay defined.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from cu_attacks._types import AttackError, BoolArray, FloatArray, matrix, vector

Variance = Literal["pooled", "record", "nig", "global"]
"""How the spread of a record's law is fitted.

``pooled``: one within-record spread for all records. ``record``: each record its own. ``nig``: each record its own,
shrunk towards the others by a normal-inverse-gamma prior, which makes the law a Student t. ``global``: medians, and one
spread over all values of all records, as the fixed-variance branch of LiRA's released code; it mixes differences
between records into the spread and is here for comparison.
"""

_LARGEST: Final = 1e100
_FAR: Final = 1e150  # its square is still a float
_FREEDOM: Final = 4.0


def signals_of(value: npt.ArrayLike, name: str, *, size: int | None = None) -> FloatArray:
    """Return one model's signals, averaged over queries.

    Args:
        value: Shape (records,) or (records, queries).
        name: What the array is called in messages.
        size: Number of records expected; any when not given.

    Raises:
        AttackError: Wrong shape, or a value that is not finite or beyond 1e100.
    """
    found = np.asarray(value, dtype=np.float64)
    if found.ndim == 2 and found.shape[1]:
        found = _bounded(matrix(found, name), name).mean(axis=1)
    return _bounded(vector(found, name, size=size), name)


def models_of(value: npt.ArrayLike, name: str, *, rows: int, size: int | None = None) -> FloatArray:
    """Return the signals of several models, averaged over queries.

    Args:
        value: Shape (models, records) or (models, records, queries).
        name: What the array is called in messages.
        rows: Smallest number of models.
        size: Number of records expected; any when not given.

    Raises:
        AttackError: Wrong shape, or a value that is not finite or beyond 1e100.
    """
    found = np.asarray(value, dtype=np.float64)
    if found.ndim == 3 and found.shape[2]:
        models, records, queries = found.shape
        flat = _bounded(matrix(found.reshape(models, records * queries), name, rows=rows), name)
        found = flat.reshape(models, records, queries).mean(axis=2)
    found = _bounded(matrix(found, name, rows=rows), name)
    if size is not None and found.shape[1] != size:
        raise AttackError(f"{name}: signals on {found.shape[1]} records; expected {size}")
    return found


def mask_of(value: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> BoolArray:
    """Return a boolean array of a given shape.

    Raises:
        AttackError: Another shape or another kind of value.
    """
    found = np.asarray(value)
    if found.dtype != np.bool_ or found.shape != shape:
        raise AttackError(f"{name}: {found.dtype} of shape {found.shape}; expected booleans of shape {shape}")
    return found


def _bounded(found: FloatArray, name: str) -> FloatArray:
    if found.size and np.abs(found).max() > _LARGEST:
        raise AttackError(
            f"{name}: a value of {np.abs(found).max():.3g}; expected magnitudes of at most {_LARGEST:.0e}"
        )
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """The law of each record's signal in a model of one kind.

    Args:
        centre: Shape (records,).
        spread: Positive, shape (records,).
        freedom: Degrees of freedom of a Student t, shape (records,); ``None`` for a normal law.
    """

    centre: FloatArray
    spread: FloatArray
    freedom: FloatArray | None = None

    def standardised(self, values: FloatArray) -> FloatArray:
        """Return distances from the centre in spreads; values have shape (..., records)."""
        return np.clip((values - self.centre) / self.spread, -_FAR, _FAR)

    def log_density(self, values: FloatArray) -> FloatArray:
        """Return the logarithm of the density; values have shape (..., records)."""
        z = self.standardised(values)
        found: FloatArray
        if self.freedom is None:
            found = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) - np.log(self.spread)
            return found
        nu = self.freedom
        scale = special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi) - np.log(self.spread)
        found = scale - (nu + 1) / 2 * np.log1p(z**2 / nu)
        return found

    def log_below(self, values: FloatArray) -> FloatArray:
        """Return ln P[X <= value], finite however far out; values have shape (..., records)."""
        z = self.standardised(values)
        found: FloatArray
        if self.freedom is None:
            found = special.log_ndtr(z)
            return found
        return _log_student(np.broadcast_to(self.freedom, z.shape), z)


def _log_student(nu: FloatArray, z: FloatArray) -> FloatArray:
    """Return ln P[T <= z] of Student's law.

    Far out the chance underflows; its logarithm does not. With x = nu / (nu + z^2) and a = nu / 2 the chance is
    I_x(a, 1/2) / 2 = x^a (1 - x)^(1/2) F(a + 1/2, 1; a + 1; x) / (2 a B(a, 1/2)).
    """
    below = special.stdtr(nu, z)
    far = below < 1e-250
    found: FloatArray = np.log(np.where(far, 1.0, below))
    x, a = nu[far] / (nu[far] + z[far] ** 2), nu[far] / 2
    power = a * np.log(x) + 0.5 * np.log1p(-x) - np.log(2 * a) - special.betaln(a, 0.5)
    found[far] = power + np.log(special.hyp2f1(a + 0.5, 1.0, a + 1.0, x))
    return found


def fit_law(values: FloatArray, variance: Variance, name: str, use: BoolArray | None = None) -> Law:
    """Fit the law of each record.

    A record whose values are all equal gets the pooled spread, and 1 when that is 0 too.

    Args:
        values: Signals of models of one kind, shape (models, records).
        variance: How the spread is fitted.
        name: What the values are called in messages.
        use: Which of them belong to the kind, shape (models, records); all when not given.

    Raises:
        AttackError: An unknown variance, a record without a value, or too few values for a spread.
    """
    if variance not in get_args(Variance):
        raise AttackError(f"variance: {variance!r}; expected one of {', '.join(get_args(Variance))}")
    kept = np.ones(values.shape, dtype=np.bool_) if use is None else use
    count = kept.sum(axis=0)
    least = 2 if variance == "record" else 1
    if count.min() < least or count.max() < 2:
        raise AttackError(
            f"{name}: {count.min()} to {count.max()} models a record; expected at least {least} for each and 2 for one"
        )
    centre = np.where(kept, values, 0.0).sum(axis=0) / count
    squares = (np.where(kept, values - centre, 0.0) ** 2).sum(axis=0)
    pooled = float(squares.sum() / (count - 1).sum())
    pooled = pooled if pooled > 0 else 1.0
    if variance == "nig":
        return _shrunk(centre, squares, count, pooled)
    if variance == "global":
        centre = np.nanmedian(np.where(kept, values, np.nan), axis=0)
        spread = float(values[kept].std())
        return Law(centre=centre, spread=np.full_like(centre, spread if spread > 0 else 1.0))
    if variance == "record":
        own = squares / (count - 1)
        return Law(centre=centre, spread=np.sqrt(np.where(own > 0, own, pooled)))
    return Law(centre=centre, spread=np.full_like(centre, pooled**0.5))


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A normal-inverse-gamma prior: variance scaled inverse chi-squared, mean normal given the variance.

    Args:
        mean: m0.
        strength: k0, how many values the prior mean is worth, at least 0.
        freedom: nu0, how many values the prior variance is worth, positive.
        variance: s0^2, positive.
    """

    mean: float
    strength: float
    freedom: float
    variance: float

    def __post_init__(self) -> None:
        """Raise AttackError when a number is out of range."""
        if not (self.strength >= 0 and self.freedom > 0 and self.variance > 0 and np.isfinite(self.mean)):
            raise AttackError(f"prior: {self}; expected strength >= 0, freedom > 0, variance > 0 and a finite mean")


def predictive(centre: FloatArray, squares: FloatArray, count: npt.NDArray[np.int_], prior: Prior) -> Law:
    """Return the posterior predictive law of one more value: t with nu_n degrees at m_n, scale^2 s_n^2 (1 + 1/k_n).

    k_n = k0 + n, m_n = (k0 m0 + n x) / k_n, nu_n = nu0 + n,
    s_n^2 = (nu0 s0^2 + SS + k0 n (x - m0)^2 / k_n) / nu_n.

    Args:
        centre: Mean x of each record's values, shape (records,).
        squares: Sum SS of squared distances from that mean, shape (records,).
        count: Number n of values, shape (records,).
        prior: m0, k0, nu0 and s0^2.
    """
    weight = prior.strength + count
    freedom: FloatArray = prior.freedom + count.astype(np.float64)
    mean = (prior.strength * prior.mean + count * centre) / weight
    apart = prior.strength * count / weight * (centre - prior.mean) ** 2
    variance = (prior.freedom * prior.variance + squares + apart) / freedom
    return Law(centre=mean, spread=np.sqrt(variance * (1 + 1 / weight)), freedom=freedom)


def _shrunk(centre: FloatArray, squares: FloatArray, count: npt.NDArray[np.int_], pooled: float) -> Law:
    """Fit the prior on all records (empirical Bayes) and return each record's predictive law.

    s0^2 is the pooled variance and m0 the mean of the centres. k0 = s0^2 / t^2, where t^2 is the variance of the true
    centres between records: records far apart say nothing about each other's mean. The prior mean never outweighs the
    record's own values. nu0 is fixed.
    """
    strength = 0.0
    if len(centre) > 1:
        between = float(centre.var(ddof=1)) - pooled * float((1 / count).mean())
        strength = pooled / max(between, pooled / float(count.mean()))
    prior = Prior(mean=float(centre.mean()), strength=strength, freedom=_FREEDOM, variance=pooled)
    return predictive(centre, squares, count, prior)
