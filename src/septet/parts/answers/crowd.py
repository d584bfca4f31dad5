"""What many labels of unequal worth say together: Dawid–Skene, one coin, GLAD and MACE, without any right answer.

A *worker* gives *items* one of k labels. A judge that scores answers is a worker, an answer of a question is an
item, a score level is a label; so is a member that answers questions with options. Each model is fitted by
expectation–maximisation from vote shares, without a random start: the same labels give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

Ints = NDArray[np.int32]
Prior = Literal["fitted", "uniform"]

_LEAST = 1e-10
"""What a count and a probability are at least, so that an event nobody has seen has a logarithm."""


@dataclass(frozen=True)
class Labels:
    """Labels one by one: `worker[r]` gave `item[r]` the label `label[r]`, all (r,), counted from 0.

    `weight` (r,), where given, is how much a label counts; half labels come from fractional ones (see `of`).
    What a worker did not label is left out. Raises BadParameter for an index out of range.
    """

    item: Ints
    worker: Ints
    label: Ints
    n_items: int
    n_workers: int
    n_labels: int
    weight: Floats | None = None

    def __post_init__(self) -> None:
        if self.n_labels < 2:
            raise BadParameter("labels", self.n_labels, "must be of at least 2 kinds")
        for name, index, size in (
            ("item", self.item, self.n_items),
            ("worker", self.worker, self.n_workers),
            ("label", self.label, self.n_labels),
        ):
            if len(index) != len(self.item):
                raise BadParameter(
                    name, len(index), f"must have a value for each of the {len(self.item)} labels"
                )
            if len(index) and (index.min() < 0 or index.max() >= size):
                wrong = index.min() if index.min() < 0 else index.max()
                raise BadParameter(name, int(wrong), f"must be indices from 0 to {size - 1}")

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def of(cls, table: Floats, n_labels: int) -> Labels:
        """The labels of a table (n_items, n_workers); NaN: none was given.

        A fractional label counts in part for each of its two neighbours: 1.25 is 0.75 of 1 and 0.25 of 2.

        >>> found = Labels.of(np.array([[0.0, 1.25]]), 3)
        >>> found.label.tolist(), found.weight.tolist()
        ([0, 1, 2], [1.0, 0.75, 0.25])
        """
        item, worker = np.nonzero(~np.isnan(table))
        given = table[item, worker]
        low = np.floor(given)
        part = given - low
        between = part > 0
        if not between.any():
            return cls(_ints(item), _ints(worker), _ints(low), len(table), table.shape[1], n_labels)
        return cls(
            _ints(np.concatenate([item, item[between]])),
            _ints(np.concatenate([worker, worker[between]])),
            _ints(np.concatenate([low, low[between] + 1])),
            len(table),
            table.shape[1],
            n_labels,
            np.concatenate([1 - part, part[between]]),
        )

    def shares(self) -> Floats:
        """(n_items, n_labels) share of each label; alike where an item has none."""
        return _shares(_counted(self, None))


def _ints(column: NDArray[Any]) -> Ints:
    return column.astype(np.int32)


def _shares(counts: Floats) -> Floats:
    """(n, k) rows divided by their sums; a row of zeros is alike."""
    total = counts.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(counts, total, out=np.full_like(counts, 1 / counts.shape[1]), where=total > 0)
    return shares


def _counted(labels: Labels, vote: Floats | None) -> Floats:
    """(n_items, n_labels) sum of votes (r,) for each label of each item; None: one each."""
    if labels.weight is not None:
        vote = labels.weight if vote is None else vote * labels.weight
    cell = labels.item.astype(np.int64) * labels.n_labels + labels.label
    counts = np.bincount(cell, weights=vote, minlength=labels.n_items * labels.n_labels)
    return counts.reshape(labels.n_items, labels.n_labels).astype(np.float64, copy=False)


def _by(index: Ints, values: Floats, labels: Labels, size: int) -> Floats:
    """(size,) weighted sum of values (r,) by worker or item."""
    weighed = values if labels.weight is None else values * labels.weight
    return np.bincount(index, weights=weighed, minlength=size).astype(np.float64, copy=False)


def _softmax(log_p: Floats) -> Floats:
    """(n, k) rows as probabilities; the input is overwritten."""
    log_p -= log_p.max(axis=1, keepdims=True)
    np.exp(log_p, out=log_p)
    log_p /= log_p.sum(axis=1, keepdims=True)
    return log_p


def _log_prior(posterior: Floats, prior: Prior) -> Floats:
    """(k,) log-probability of each label before any was given."""
    k = posterior.shape[1]
    share = posterior.mean(axis=0) if prior == "fitted" and len(posterior) else np.full(k, 1 / k)
    found: Floats = np.log(np.maximum(share, _LEAST))
    return found


def _given(labels: Labels, posterior: Floats) -> Floats:
    """(r,) how probable each given label is to be the true one."""
    found: Floats = posterior[labels.item, labels.label]
    return found


# --- Dawid and Skene -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Confusion:
    """What Dawid–Skene learns: `prior` (k,) and `matrix` (n_workers, k, k), P(label | worker, true label)."""

    prior: Floats
    matrix: Floats

    def posterior(self, labels: Labels) -> Floats:
        """(n_items, k) P(true label) of items, also of such as were not fitted."""
        return _confused(_incidence(labels), self.prior, self.matrix)


def dawid_skene(
    labels: Labels,
    *,
    prior: Prior = "fitted",
    smoothing: float = 0.01,
    rounds: int = 100,
    tolerance: float = 1e-6,
) -> tuple[Floats, Confusion]:
    """(n_items, k) posterior, and the workers' confusion matrices (Dawid and Skene 1979).

    E: T_ik ∝ π_k Π_w E^w[k, l_iw]. M: E^w[k, l] ∝ s + Σ_i T_ik·1[l_iw = l], π = mean of T, or `uniform`.
    `smoothing` s is a Dirichlet count per cell; a row that nothing was seen of is uniform. Ends after `rounds`,
    or when no probability moves by `tolerance`. An adversary is recognised, and its labels are turned round:

    >>> table = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1]], float)
    >>> posterior, workers = dawid_skene(Labels.of(table, 2), smoothing=0)
    >>> posterior[:, 1].round(3).tolist()
    [1.0, 1.0, 0.0, 0.0, 0.0]
    """
    incidence = _incidence(labels)
    back = (
        incidence.T.tocsr() if len(labels) < _TWICE else incidence.T
    )  # a second copy makes small fits faster
    posterior = labels.shares()
    k = labels.n_labels
    share, matrix = np.full(k, 1 / k), np.full((labels.n_workers, k, k), 1 / k)
    for _ in range(max(1, rounds)):
        counts = (back @ posterior).reshape(labels.n_workers, k, k).transpose(0, 2, 1)  # (w, true, label)
        counts = np.maximum(counts + smoothing, _LEAST)
        matrix = counts / counts.sum(axis=2, keepdims=True)
        share = np.exp(_log_prior(posterior, prior))
        following = _confused(incidence, share, matrix)
        moved = _largest_move(posterior, following)
        posterior = following
        if moved < tolerance:
            break
    return posterior, Confusion(share, matrix)


_TWICE = 1_000_000
"""Labels up to which the incidence is kept by items and by workers."""


def _incidence(labels: Labels) -> Any:
    """(n_items, n_workers · k) sparse: how often a worker gave an item a label."""
    from scipy.sparse import csr_array

    order = slice(None)
    if len(labels) > 1 and (np.diff(labels.item) < 0).any():
        order = np.argsort(labels.item, kind="stable")  # type: ignore[assignment]
    starts = np.zeros(labels.n_items + 1, dtype=np.int64)
    np.cumsum(np.bincount(labels.item, minlength=labels.n_items), out=starts[1:])
    column = labels.worker[order] * np.int32(labels.n_labels) + labels.label[order]
    weight = np.ones(len(labels)) if labels.weight is None else labels.weight[order]
    return csr_array((weight, column, starts), shape=(labels.n_items, labels.n_workers * labels.n_labels))


def _confused(incidence: Any, share: Floats, matrix: Floats) -> Floats:
    """(n_items, k) the E-step of Dawid–Skene."""
    k = len(share)
    log_p: Floats = incidence @ np.log(np.maximum(matrix, _LEAST)).transpose(0, 2, 1).reshape(-1, k)
    log_p += np.log(np.maximum(share, _LEAST))
    return _softmax(log_p)


def _largest_move(before: Floats, after: Floats) -> float:
    """The largest change of a probability; what was before is overwritten."""
    before -= after
    return float(np.abs(before, out=before).max(initial=0.0))


# --- one coin ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coins:
    """What the one-coin model learns: `prior` (k,) and `accuracy` (n_workers,) P(right); errors are uniform."""

    prior: Floats
    accuracy: Floats

    def posterior(self, labels: Labels) -> Floats:
        """(n_items, k) P(true label) of items, also of such as were not fitted."""
        log_p = _counted(labels, self.log_odds(labels.n_labels)[labels.worker])
        log_p += np.log(np.maximum(self.prior, _LEAST))
        return _softmax(log_p)

    def log_odds(self, k: int) -> Floats:
        """(n_workers,) the weight of a worker's vote: log of (k − 1)·p/(1 − p)."""
        p = np.clip(self.accuracy, _LEAST, 1 - _LEAST)
        return np.log((k - 1) * p / (1 - p))


def one_coin(
    labels: Labels,
    *,
    prior: Prior = "fitted",
    smoothing: float = 0.01,
    rounds: int = 100,
    tolerance: float = 1e-6,
) -> tuple[Floats, Coins]:
    """(n_items, k) posterior, and one accuracy per worker: right with p_w, else any other label alike.

    Dawid–Skene with E^w[k, l] = p_w on the diagonal and (1 − p_w)/(k − 1) off it (1406.3824). M: p_w =
    (s + Σ_i T_i,l_iw) / (2s + n_w). A weighted vote with log-odds weights, whose weights are learned.

    >>> table = np.array([[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 0]], float)
    >>> one_coin(Labels.of(table, 2), smoothing=0)[1].accuracy.round(2).tolist()
    [1.0, 1.0, 0.25]
    """
    posterior = labels.shares()
    n = _by(labels.worker, np.ones(len(labels)), labels, labels.n_workers)
    found = Coins(np.full(labels.n_labels, 1 / labels.n_labels), np.full(labels.n_workers, 0.5))
    for _ in range(max(1, rounds)):
        right = _by(labels.worker, _given(labels, posterior), labels, labels.n_workers)
        accuracy = np.divide(right + smoothing, n + 2 * smoothing, out=np.full_like(n, 0.5), where=n > 0)
        found = Coins(np.exp(_log_prior(posterior, prior)), accuracy)
        following = found.posterior(labels)
        moved = _largest_move(posterior, following)
        posterior = following
        if moved < tolerance:
            break
    return posterior, found


# --- GLAD ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Abilities:
    """What GLAD learns: `ability` (n_workers,) α, negative for an adversary, and `ease` (n_items,) β > 0."""

    ability: Floats
    ease: Floats


def glad(
    labels: Labels, *, rounds: int = 50, tolerance: float = 1e-6, steps: int = 50, settled: float = 2e-9
) -> tuple[Floats, Abilities]:
    """(n_items, k) posterior, workers' abilities and items' ease (Whitehill et al., NeurIPS 2009).

    P(l_iw right) = σ(α_w·β_i), errors uniform; α and log β have normal priors of mean 1 and variance 1, labels
    a uniform one. The M-step maximises the expected log-posterior of all α and log β by L-BFGS, at most `steps` of
    it, until a step gains relatively less than `settled`. Where labels are little more than noise there are
    several optima and it settles slowly: even the order of the workers can then be seen in the posterior.

    crowd-kit's GLAD is the same to 1e-5 from as many M-steps that are as exact (1e-15). Its own defaults differ: 25
    steps of conjugate gradients until the slope is below .01; it ends by the gain of the objective; and it reports the
    posterior from before its last M-step.

    >>> table = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1]], float)
    >>> posterior, workers = glad(Labels.of(table, 2))
    >>> workers.ability.round(1).tolist(), round(float(posterior[4, 1]), 2)
    ([0.8, 1.1, -0.6], 0.23)
    """
    from scipy.optimize import minimize

    at = np.ones(labels.n_workers + labels.n_items)
    posterior = _as_able(labels, at)
    # near an optimum the gain goes by the square of the slope
    end = {"maxiter": steps, "ftol": settled, "gtol": min(1e-5, settled**0.5)}
    for _ in range(max(1, rounds)):
        given = _given(labels, posterior)
        at = minimize(_unable, at, (labels, given), method="L-BFGS-B", jac=True, options=end).x
        following = _as_able(labels, at)
        moved = _largest_move(posterior, following)
        posterior = following
        if moved < tolerance:
            break
    return posterior, Abilities(at[: labels.n_workers], np.exp(at[labels.n_workers :]))


def _as_able(labels: Labels, at: Floats) -> Floats:
    """(n_items, k) the E-step of GLAD: a right label is (k − 1)·e^(αβ) times as likely as a wrong one."""
    vote = at[labels.worker] * np.exp(at[labels.n_workers :])[labels.item]
    return _softmax(_counted(labels, vote + np.log(labels.n_labels - 1)))


def _unable(at: Floats, labels: Labels, given: Floats) -> tuple[float, Floats]:
    """Minus the expected log-posterior of α and log β (w + n,), without constants, and its gradient."""
    weight = 1.0 if labels.weight is None else labels.weight
    ease = np.exp(at[labels.n_workers :])[labels.item]
    strength = at[labels.worker] * ease
    # log σ(x) = −log(1 + e^−x), log(1 − σ(x)) = −x − log(1 + e^−x)
    value = ((given - 1) * strength - np.logaddexp(0.0, -strength)) * weight
    slope = given - 0.5 * (1 + np.tanh(0.5 * strength))
    of_workers = _by(labels.worker, slope * ease, labels, labels.n_workers)
    of_items = _by(labels.item, slope * strength, labels, labels.n_items)
    away = at - 1
    return 0.5 * float(away @ away) - float(value.sum()), away - np.concatenate([of_workers, of_items])


# --- MACE ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Competences:
    """What MACE learns: `competence` (n_workers,) θ, how often a worker does not spam, and `strategy`
    (n_workers, k) ξ, what it says where it does."""

    competence: Floats
    strategy: Floats


def mace(labels: Labels, *, rounds: int = 50, tolerance: float = 1e-6) -> tuple[Floats, Competences]:
    """(n_items, k) posterior, and who is competent and who spams (Hovy et al., NAACL 2013).

    A worker copies the true label with θ_w, else draws from ξ_w. Variational Bayes as in the paper: Beta(½, ½) on θ,
    Dirichlet(10) on ξ, labels uniform. It starts from θ = ½ and uniform ξ where the paper restarts at random.
    It cannot say that a worker is an adversary: the least is a spammer, whose votes do not count.

    crowd-kit's MACE from the same start is the same to 1e-9, and from random ones it ends in the same place, if labels
    and workers first appear in the order of their names; where they do not, it reads strategies in another order.

    >>> table = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1]], float)
    >>> round(float(mace(Labels.of(table, 2))[0][4, 1]), 2)
    0.66
    """
    from scipy.special import digamma

    w, k = labels.n_workers, labels.n_labels
    cell = labels.worker.astype(np.int64) * k + labels.label
    n = _by(labels.worker, np.ones(len(labels)), labels, w)
    said = np.bincount(cell, weights=labels.weight, minlength=w * k).reshape(w, k)
    competence, spam, strategy = np.full(w, 0.5), np.full(w, 0.5), np.full((w, k), 1 / k)
    posterior, sure = _as_competent(labels, competence, spam, strategy)
    for _ in range(max(1, rounds)):
        knew = _given(labels, posterior) * sure  # (r,) P(the worker knew)
        knowing = np.bincount(cell, weights=knew * _one(labels), minlength=w * k).reshape(w, k)
        whole = np.exp(digamma(n + 1))
        competence = np.exp(digamma(knowing.sum(axis=1) + 0.5)) / whole
        spam = np.exp(digamma(n - knowing.sum(axis=1) + 0.5)) / whole
        drawn = np.maximum(said - knowing, 0.0)
        strategy = np.exp(digamma(drawn + 10.0)) / np.exp(digamma(drawn.sum(axis=1) + 10.0 * k))[:, None]
        following, sure = _as_competent(labels, competence, spam, strategy)
        moved = _largest_move(posterior, following)
        posterior = following
        if moved < tolerance:
            break
    return posterior, Competences(competence, strategy)


def _one(labels: Labels) -> Floats | float:
    return 1.0 if labels.weight is None else labels.weight


def _as_competent(
    labels: Labels, competence: Floats, spam: Floats, strategy: Floats
) -> tuple[Floats, Floats]:
    """(n_items, k) the E-step of MACE, and (r,) P(it knew | its label is the true one)."""
    by_chance = spam[labels.worker] * strategy[labels.worker, labels.label]
    sure = competence[labels.worker] / (competence[labels.worker] + by_chance)
    return _softmax(_counted(labels, -np.log1p(-np.minimum(sure, 1 - _LEAST)))), sure
