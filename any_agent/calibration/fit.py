"""What one server's tokenizer makes of our counts: learned from each `prompt_tokens` it reports.

A prompt is described by features that add up (our token count, bytes by kind of text, messages, …). Their weights start
from a prior that covers the vocabularies of today and are fitted by Bayesian least squares: bounds are wide where
nothing like it was seen yet (another script, digits, tools) and narrow where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Literal, NamedTuple, TypeAlias

from .features import ASCII, FIXED, IMAGES, MESSAGES, SCRIPTS, SIZE, TEXT_SIZE, TOKENS, TOOLS, Features

Trust: TypeAlias = Literal["exact", "near", "rough"]
# "cut": below the lower bound, so text was cut, or another model has answered; "doubted": far more than expected.
Verdict: TypeAlias = Literal["learned", "doubted", "cut"]

_MARGIN = 4.0  # standard deviations between the estimate and a bound
FLOOR = 0.35  # no honest tokenizer is known to make fewer tokens than this share of ours
_CLEAR, _DOUBT = 30.0, -3.0  # 2 log of the odds at which one explanation is dropped for the other
_LEAST_PER_BYTE = 0.33  # below, vocabularies explain it
_MAX_OBSERVATIONS, _MAX_WHOLE = 24, 8


class _Prior(NamedTuple):
    """Of each weight before any evidence: its mean, its uncertainty, and how much it differs from text to text."""

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    noise: tuple[float, ...]

    def scaled(self, ratio: float) -> _Prior:
        """The same belief about a tokenizer with `ratio` times the tokens; overhead and images stay."""
        factors = [1.0 if i in (MESSAGES, IMAGES, FIXED) else ratio for i in range(SIZE)]
        return _Prior(*[tuple(map(mul, column, factors)) for column in self])


def _prior(text: Sequence[tuple[float, float, float]], width: float, tools: tuple[float, float, float]) -> _Prior:
    rows = [(mean, sd * width, noise * width) for mean, sd, noise in text]
    rows += [(5.0, 2.5, 1.0), (800.0, 400.0, 100.0), tools, (8.0, 25.0, 0.0)]
    return _Prior(*[tuple(column) for column in zip(*rows, strict=True)])


# Measured over ten vocabularies (Llama 2 and 3, Qwen, Gemma, Mistral, DeepSeek, GLM, Kimi, cl100k) against o200k on 19
# kinds of text: the factor, then tokens per byte that a kind may need beyond it.
_KINDS = [(1, 0.33, 0.045), (0, 0.03, 0.007), (0, 0.22, 0.07), (0, 0.08, 0.05), (0, 0.12, 0.05), (0, 0.3, 0.12)]
_KINDS += [(0, 0.4, 0.15), (0, 0.13, 0.06), (0, 0.16, 0.08), (0, 0.13, 0.06), (0, 0.13, 0.06), (0, 0.16, 0.08)]
_PRIORS: dict[Trust, _Prior] = {
    "exact": _prior(_KINDS, 0.2, (1.0, 0.5, 0.03)),
    "near": _prior(_KINDS, 1.0, (1.0, 0.5, 0.03)),
    "rough": _prior(_KINDS, 1.5, (1.0, 0.5, 0.05)),
}
# Tokens that are bytes or characters, or a share of them.
_BYTES = [(0, 0.05, 0.01), (1, 0.4, 0.01), *[(0, 0.05, 0.01)] * 4, *[(0.75, 0.2, 0.03)] * 2, *[(0.6, 0.25, 0.03)] * 4]
_BYTE_PRIOR = _prior(_BYTES, 1.0, (3.5, 2.0, 0.1))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Prompt tokens: the best guess, and two figures that the truth lies between."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Step:
    """How a prompt differs from one whose tokens are known: what is new in it, and what is gone."""

    tokens: float
    new: Features
    gone: Features


@dataclass(frozen=True, slots=True)
class Observation:
    """Features and the tokens they made. `touched` is where the noise comes from: of a step, new and gone text."""

    features: Features
    tokens: float
    touched: Features

    @property
    def is_whole(self) -> bool:
        return self.features[FIXED] > 0


class _Guess(NamedTuple):
    estimate: float
    lower: float
    upper: float
    deviation: float
    step: Step | None  # the known prompt it starts from


class Fit:
    """The weights of one tokenizer, and what they were learned from.

    Args:
        trust: "exact": our vocabulary is the model's own; "near": it is another one; "rough": characters were counted.
        observations: What earlier runs saw.
    """

    def __init__(self, trust: Trust = "near", observations: Sequence[Observation] = ()) -> None:
        self.trust: Trust = trust
        self.observations = list(observations[-_MAX_OBSERVATIONS:])
        self.learned = 0  # grows with every report that was taken in
        self._strays: list[tuple[Observation, float]] = []  # outside the bounds, in a row, with what was expected
        self._surprises: list[float] = []  # errors of late predictions in standard deviations
        self._lift = 1.0  # holds `upper` above strays until it is clear what they mean
        self._weights: list[_Weights] = []

    def bounds(self, features: Features, step: Step | None = None) -> Bounds:
        """What a prompt will be reported as; `step` starts from a prompt that was reported."""
        guess = self._guess(features, step)
        return Bounds(guess.estimate, guess.lower, guess.upper * self._lift)

    def learn(self, features: Features, tokens: float, step: Step | None = None) -> Verdict:
        """Take in a report; one that no tokenizer could make of it is not believed."""
        if tokens > _most(features):
            return "doubted"
        guess = self._guess(features, step)
        if self.trust == "exact" and tokens > guess.upper:  # another model under this name
            self.trust, self._weights = "near", []
            guess = self._guess(features, step)
        alone = self._guess(features) if guess.step else guess
        is_known = len(self.observations) >= 3
        if tokens < guess.lower or (is_known and not (tokens <= guess.upper and alone.lower <= tokens <= alone.upper)):
            self._strays.append((Observation(features, tokens, features), alone.estimate))
            if self._is_another_tokenizer():
                self.observations, self._surprises = [], []
                self.trust = "rough" if self.trust == "rough" else "near"
                self._keep(*[stray for stray, _ in self._strays])
                return "learned"
            if tokens < guess.lower:
                return "cut"
            if tokens > guess.upper:
                self._lift = max(self._lift, 1.1 * tokens / max(guess.estimate, 1.0))
                return "doubted"
        else:  # what surprised before was text of a new kind, unless it was far off
            self._keep(*[stray for stray, expected in self._strays if expected < stray.tokens < 1.5 * expected])
        surprise = abs(tokens - guess.estimate) / max(guess.deviation, 0.5)
        if len(self.observations) >= 2:
            self._surprises = [*self._surprises[-11:], surprise]
        self._add(_observation(features, tokens, guess.step), is_news=surprise > 0.5)
        return "learned"

    def unlearn(self, reports: int) -> None:
        """Forget the last reports: they told nothing of the tokenizer."""
        del self.observations[max(len(self.observations) - reports, 0) :]
        self._weights, self._strays, self._surprises, self._lift = [], [], [], 1.0
        self.learned += 1

    def _keep(self, *strays: Observation) -> None:
        for stray in strays:
            self._add(stray)
        self._strays, self._lift = [], 1.0

    def _add(self, observation: Observation, *, is_news: bool = True) -> None:
        self.observations.append(observation)
        self.learned += 1
        if is_news or len(self.observations) < 8 or self.learned % 8 == 0:  # fitting anew takes half a millisecond
            self._weights = []
        if len(self.observations) > _MAX_OBSERVATIONS:
            wholes = [o for o in self.observations if o.is_whole]
            steps = [o for o in self.observations if not o.is_whole]
            self.observations.remove(wholes[0] if len(wholes) > _MAX_WHOLE or not steps else steps[0])

    def _is_another_tokenizer(self) -> bool:
        """Three in a row are off by one factor, and it is no ceiling: prompts that are cut do not grow."""
        self._strays = self._strays[-3:]
        ratios = sorted(stray.tokens / max(expected, 1.0) for stray, expected in self._strays)
        if len(ratios) < 3 or ratios[2] > 1.15 * ratios[0] or 0.9 < ratios[1] < 1.1:
            return False
        tokens = sorted(stray.tokens for stray, _ in self._strays)
        expected = sorted(max(expected, 1.0) for _, expected in self._strays)
        growth = math.log(expected[2] / expected[0])
        return ratios[1] > 1 or (growth > 0.02 and math.log(tokens[2] / tokens[0]) > 0.5 * growth)

    def _guess(self, features: Features, step: Step | None = None) -> _Guess:
        if not self._weights:
            self._weights = _fitted(self.trust, self.observations)
        first, *others = [self._explained(weights, features, step) for weights in self._weights]
        for other in others:
            first = first._replace(lower=min(first.lower, other.lower), upper=max(first.upper, other.upper))
        return first

    def _explained(self, weights: _Weights, features: Features, step: Step | None) -> _Guess:
        estimate, variance = weights.of(features, features)
        if step is not None:
            change, stepped = weights.of(_change(step), _touched(step))
            if stepped < variance:
                estimate, variance = step.tokens + change, stepped
            else:
                step = None
        deviation, estimate = math.sqrt(variance), max(estimate, 0.0)
        margin = _MARGIN * deviation * max([1.0, *[s / 3 for s in self._surprises]])
        lower = weights.floor * features[TOKENS]
        if len(self.observations) >= 3:  # a false alarm is worse than a late one
            lower = max(lower, 0.98 * estimate - margin)
        return _Guess(estimate, lower, max(estimate + margin, lower), deviation, step)


def _most(features: Features) -> float:
    """Beyond two tokens a byte nothing honest is left; templates and images get room."""
    text = features[ASCII] + sum(features[SCRIPTS:TEXT_SIZE])
    return 4096 + 2 * text + 64 * features[MESSAGES] + 20_000 * features[IMAGES] + 6 * features[TOOLS]


def _observation(features: Features, tokens: float, step: Step | None) -> Observation:
    if step is None:
        return Observation(features, tokens, features)
    return Observation(_change(step), tokens - step.tokens, _touched(step))


def _change(step: Step) -> list[float]:
    return [new - gone for new, gone in zip(step.new, step.gone, strict=True)]


def _touched(step: Step) -> list[float]:
    return [new + gone for new, gone in zip(step.new, step.gone, strict=True)]


def _dot(a: Iterable[float], b: Iterable[float]) -> float:
    total: float = sum(map(mul, a, b))
    return total


# ------------------------------------------------------------------ least squares


class _Weights:
    """A fitted prior: the mean of each weight and how sure it is. Only features that were seen are correlated."""

    def __init__(self, prior: _Prior, observations: Sequence[Observation]) -> None:
        self._prior = prior
        self._noise = [noise * noise for noise in prior.noise]
        self._seen = [i for i in range(SIZE) if any(o.features[i] for o in observations)]
        self._unseen = [i for i in range(SIZE) if i not in self._seen]
        precision = [1 / prior.sd[i] ** 2 for i in self._seen]
        matrix = [[0.0] * k + [p] for k, p in enumerate(precision)]  # the lower triangle
        target = [p * prior.mean[i] for p, i in zip(precision, self._seen, strict=True)]
        for o in observations:
            x = [o.features[i] for i in self._seen]
            certainty = 1 / self._noise_of(o.touched)
            for k, value in enumerate(x):
                if value:
                    weighted = certainty * value
                    matrix[k] = [m + weighted * other for m, other in zip(matrix[k], x, strict=False)]
                    target[k] += weighted * o.tokens
        self._root = _cholesky(matrix)
        self.mean = list(prior.mean)
        for i, value in zip(self._seen, _solved(self._root, target), strict=True):
            self.mean[i] = value
        ratios = [o.tokens / o.features[TOKENS] for o in observations if o.is_whole and o.features[TOKENS] > 50]
        self.disbelief = self._disbelief(observations)
        self.floor = min([FLOOR, *[0.6 * ratio for ratio in ratios]])

    def of(self, features: Features, touched: Features) -> tuple[float, float]:
        """Tokens, and their variance."""
        spread = _forward(self._root, [features[i] for i in self._seen])
        variance = _dot(spread, spread) + self._noise_of(touched)
        variance += sum([(features[i] * self._prior.sd[i]) ** 2 for i in self._unseen if features[i]])
        return _dot(self.mean, features), variance

    def _disbelief(self, observations: Sequence[Observation]) -> float:
        """-2 log of how probable the observations were under the prior: less is better, comparable between priors."""
        noises = [self._noise_of(o.touched) for o in observations]
        errors = [o.tokens - _dot(self.mean, o.features) for o in observations]
        pulls = [(self.mean[i] - self._prior.mean[i]) / self._prior.sd[i] for i in self._seen]
        shrinking = [2 * math.log(row[-1] * self._prior.sd[i]) for row, i in zip(self._root, self._seen, strict=True)]
        surprise = sum([math.log(n) + e * e / n for n, e in zip(noises, errors, strict=True)])
        return surprise + _dot(pulls, pulls) + sum(shrinking)

    def _noise_of(self, touched: Features) -> float:
        few = 4.0 if touched[MESSAGES] else 0.25  # roundings, a template's odd token
        return few + sum([noise * x * x for noise, x in zip(self._noise, touched, strict=True) if x])


def _fitted(trust: Trust, observations: Sequence[Observation]) -> list[_Weights]:
    """The explanations that stand, the best first."""
    ratio = _ratio(observations, range(1))
    if trust == "exact" and not 0.9 < ratio < 1.3:  # another model under this name
        trust = "near"
    usual = _Weights(_PRIORS[trust].scaled(ratio), observations)
    if not observations or trust == "exact":
        return [usual]
    per_byte = _ratio(observations, [ASCII, *range(SCRIPTS, TEXT_SIZE)])
    if per_byte < _LEAST_PER_BYTE:
        return [usual]
    odd = _Weights(_BYTE_PRIOR.scaled(per_byte), observations)
    evidence = usual.disbelief - odd.disbelief
    if evidence > _CLEAR:
        return [odd]
    return [odd, usual] if evidence > 0 else [usual, odd] if evidence > _DOUBT else [usual]


def _ratio(observations: Sequence[Observation], columns: Iterable[int]) -> float:
    """Tokens per unit of text; how tools are shown is anyone's guess, so they may explain away what they can."""
    columns = list(columns)
    total = weight = 30.0  # a short first prompt says little
    for o in observations:
        text = sum([o.features[i] for i in columns])
        if text > 0:
            rest = o.tokens - 5 * o.features[MESSAGES] - 800 * o.features[IMAGES] - 8 * o.features[FIXED]
            most, least = rest / text, (rest - 6 * o.features[TOOLS]) / text
            total += text * min(max(min(max(least, 1.0), most), 0.1), 8.0)
            weight += text
    return total / weight


def _cholesky(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    root: list[list[float]] = []
    for row in matrix:
        done: list[float] = []
        for value, above in zip(row, root, strict=False):
            done.append((value - _dot(done, above)) / above[-1])
        done.append(math.sqrt(max(row[-1] - _dot(done, done), 1e-12)))
        root.append(done)
    return root


def _forward(root: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    out: list[float] = []
    for row, value in zip(root, values, strict=True):
        out.append((value - _dot(row, out)) / row[-1])
    return out


def _solved(root: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    out = _forward(root, values)
    for k in reversed(range(len(out))):
        out[k] /= root[k][k]
        for i in range(k):
            out[i] -= root[k][i] * out[k]
    return out
