"""Are the report's verdicts true as often as they say? Simulated comparisons, and random splits of real runs.

Two configurations are drawn from a crossed model: whether a training gets an image right is drawn from a probability
whose logit is the configuration's level, plus the image's difficulty (shared by all), plus the image's interaction with
the configuration, plus the seed's effect, all normal. The level is solved so that the mean accuracy over images and
seeds is the wanted one, and the seeds' standard deviation is given in points of accuracy. With `--classes`, a training
that does not know an image guesses its class.

    python benchmarks/calibration.py                          # every cell, as rows of a Markdown table
    python benchmarks/calibration.py --seeds 3 --accuracies 0.85 --images 500
    python benchmarks/calibration.py --method bootstrap       # the same by the crossed bootstrap of earlier versions
    python benchmarks/calibration.py --experiment NAME        # false verdicts on random splits of each configuration

Nothing is asserted: figures are printed in percent. Cells that may lie above the nominal level, named in advance: three
points of seed variance at an accuracy of 0.95, where accuracies are skewed, and every cell with two seeds.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from beans_exp.report.statistics import compare_accuracies
from beans_exp.report.statistics.forecast import forecast
from beans_exp.report.statistics.means import interval_of_mean
from beans_exp.report.statistics.variance import Values
from benchmarks import measure

ALPHA = 0.05
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
SPREADS = ((1.0, 0.3), (2.0, 1.0), (3.0, 2.0))
"""Standard deviations of images and of their interaction with the configuration, on the logit scale."""
PAGE = 10
"""Contrasts of a page, all with one baseline."""
DRAWS = 400
"""Samples of the crossed bootstrap; the earlier report drew 10,000, which changes p by less than 0.01."""
Compare = Callable[[np.ndarray, np.ndarray], Values]
"""From two arrays (replicates, seeds, images) to p (replicates,)."""


@dataclass(frozen=True)
class Cell:
    """The truth of a simulation."""

    accuracy: float
    seed_points: float
    """Standard deviation over seeds, in points."""
    image_sd: float
    interaction_sd: float
    seeds: int
    images: int = 128
    classes: int | None = None
    """Classes among which a training guesses that does not know an image; None if it is then wrong."""

    @property
    def floor(self) -> float:
        return 1 / self.classes if self.classes else 0.0

    @property
    def sd(self) -> float:
        """Of an image's logit for one configuration."""
        return float(np.hypot(self.image_sd, self.interaction_sd))

    def draw(self, differences: Sequence[float], replicates: int, random: np.random.Generator) -> list[np.ndarray]:
        """Return bool (replicates, seeds, images) for each configuration, that many better than `accuracy`."""
        shared = self.image_sd * random.normal(size=(replicates, 1, self.images))
        return [self._draw(self.accuracy + difference, shared, random)[0] for difference in differences]

    def _draw(self, accuracy: float, shared: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return which images are right, and the accuracy of each training on all images, (replicates, seeds)."""
        level, seed_sd = solve(accuracy, self)
        replicates = len(shared)
        effects = seed_sd * random.normal(size=(replicates, self.seeds, 1))
        own = self.interaction_sd * random.normal(size=shared.shape)
        known = expit(level + shared + own + effects)
        right = random.random(known.shape) < self.floor + (1 - self.floor) * known
        grid = np.linspace(-6, 6, 200) * max(seed_sd, 1e-9)
        truth = self.floor + (1 - self.floor) * mean_accuracy(level + grid, self.sd)
        return right, np.interp(effects[..., 0], grid, truth)

    def draw_with_truth(
        self, difference: float, replicates: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return both sides, and the difference of their trainings on all images, (replicates,)."""
        shared = self.image_sd * random.normal(size=(replicates, 1, self.images))
        group, ours = self._draw(self.accuracy + difference, shared, random)
        baseline, theirs = self._draw(self.accuracy, shared, random)
        return group, baseline, ours.mean(axis=1) - theirs.mean(axis=1)


def mean_accuracy(level: np.ndarray | float, sd: float) -> np.ndarray:
    """Return the mean of the logistic function over a normal variable at each `level`."""
    return expit(np.add.outer(np.asarray(level), sd * NODES)) @ WEIGHTS


@cache
def _solved(known: float, points: float, sd: float) -> tuple[float, float]:
    def level(seed_sd: float) -> float:
        total = float(np.hypot(sd, seed_sd))
        return float(brentq(lambda value: float(mean_accuracy(value, total)) - known, -60, 60))

    def spread(seed_sd: float) -> float:
        accuracies = mean_accuracy(level(seed_sd) + seed_sd * NODES, sd)
        return float(np.sqrt(WEIGHTS @ (accuracies - WEIGHTS @ accuracies) ** 2)) - points / 100

    seed_sd = float(brentq(spread, 1e-6, 20)) if points else 0.0
    return level(seed_sd), seed_sd


def solve(accuracy: float, cell: Cell) -> tuple[float, float]:
    """Return the level and the standard deviation over seeds, as logits, of a configuration with this `accuracy`."""
    share = 1 - cell.floor
    return _solved((accuracy - cell.floor) / share, cell.seed_points / share, cell.sd)


def analysis(group: np.ndarray, baseline: np.ndarray) -> Values:
    """Return p by the report's analysis."""
    return compare_accuracies(group, baseline).p


def bootstrap(group: np.ndarray, baseline: np.ndarray) -> Values:
    """Return p by the crossed bootstrap of earlier versions, which resampled equal seeds in pairs, and images."""
    random = np.random.default_rng(0)
    images = group.shape[-1]
    weights = random.multinomial(images, np.full(images, 1 / images), size=DRAWS) / images
    return np.array([_bootstrap(one, weights, random) for one in group.astype(float) - baseline])


def _bootstrap(pairs: np.ndarray, weights: np.ndarray, random: np.random.Generator) -> float:
    seeds, images = pairs.shape
    mean = pairs.mean()
    rest = pairs - pairs.mean(axis=0) - pairs.mean(axis=1, keepdims=True) + mean
    both = (rest**2).sum() / ((seeds - 1) * (images - 1)) / pairs.size
    of_images = pairs.mean(axis=0).var(ddof=1) / images
    alone = max(pairs.mean(axis=1).var(ddof=1) / seeds - both, 0)
    squares = of_images**2 / (images - 1) + alone**2 / (seeds - 1)
    freedom = (of_images + alone) ** 2 / squares if squares else images - 1
    of_seeds = random.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=DRAWS) / (seeds - 1)
    sampled = ((weights @ pairs.T) * of_seeds).sum(axis=1) - mean
    sampled = mean + sampled * np.sqrt(freedom / random.chisquare(freedom, DRAWS))
    return min(1.0, 2 * (int(min((sampled <= 0).sum(), (sampled >= 0).sum())) + 1) / (DRAWS + 1))


METHODS: dict[str, Compare] = {"analysis": analysis, "bootstrap": bootstrap}


def false_verdicts(cell: Cell, compare: Compare, replicates: int, random: np.random.Generator) -> float:
    """Return the share of comparisons of equal configurations with p below 5 %."""
    return float((compare(*cell.draw([0, 0], replicates, random)) < ALPHA).mean())


def power(
    cell: Cell, difference: float, compare: Compare, replicates: int, random: np.random.Generator, others: int = 0
) -> float:
    """Return how often `difference` is found, after Holm's correction for it and `others` without a difference."""
    group, *null, baseline = cell.draw([difference, *[0] * (others + 1)], replicates, random)
    values = np.array([compare(one, baseline) for one in (group, *null)])
    earlier = (values < values[0]).sum(axis=0)
    return float((_all_rejected(values, earlier) & (values[0] * (len(values) - earlier) < ALPHA)).mean())


def _all_rejected(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return whether Holm's procedure rejects the `count` smallest p of `values` (comparisons, replicates)."""
    factors = len(values) - np.arange(len(values))[:, None]
    passes = np.cumprod(np.sort(values, axis=0) * factors < ALPHA, axis=0)
    return passes.sum(axis=0) >= count


def family_wise(cell: Cell, compare: Compare, replicates: int, random: np.random.Generator) -> float:
    """Return the share of pages of ten comparisons, all of equal configurations, with any verdict after Holm."""
    *groups, baseline = cell.draw([0] * (PAGE + 1), replicates, random)
    least = np.min([compare(group, baseline) for group in groups], axis=0)
    return float((least * PAGE < ALPHA).mean())


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that cover the truth, for a true `difference` between two configurations."""

    new_seeds: float
    """That of the configurations, over all images and seeds."""
    same_seeds: float
    """That of these very trainings on all images."""
    mean: float
    """The accuracy of one configuration."""


def coverage(cell: Cell, difference: float, replicates: int, random: np.random.Generator) -> Coverage:
    """Return how often the report's 95 % intervals cover."""
    group, baseline, truth = cell.draw_with_truth(difference, replicates, random)
    found = compare_accuracies(group, baseline)
    low, high = interval_of_mean(baseline)
    return Coverage(
        float(((found.low <= difference) & (difference <= found.high)).mean()),
        float(((found.low <= truth) & (truth <= found.high)).mean()),
        float(((low <= cell.accuracy) & (cell.accuracy <= high)).mean()),
    )


def truth_of_forecasts(cell: Cell, difference: float, replicates: int, random: np.random.Generator) -> list[float]:
    """Return how often `difference` is found with the least and with the most seeds that a first study promises it for.

    The promise is 80 %, for the true difference. Studies for which no number of seeds is promised are left out.
    """
    first = cell.draw([difference, 0], replicates, random)
    contrasts = [compare_accuracies(*pair) for pair in zip(*first, strict=True)]
    promised = [forecast(replace(contrast, difference=difference), 1 - ALPHA).seeds for contrast in contrasts]
    return [
        _kept([seeds for seeds in bound if seeds], cell, difference, random) for bound in zip(*promised, strict=True)
    ]


def _kept(promised: Sequence[int], cell: Cell, difference: float, random: np.random.Generator) -> float:
    counts = zip(*np.unique(np.minimum(promised, 60), return_counts=True), strict=True) if promised else ()
    found = [
        compare_accuracies(*replace(cell, seeds=int(seeds)).draw([difference, 0], int(count), random)).p < ALPHA
        for seeds, count in counts
    ]
    return float(np.concatenate(found).mean()) if found else float("nan")


def split_verdicts(right: np.ndarray, seeds: int, replicates: int, random: np.random.Generator) -> float:
    """Return the share of false verdicts between two random halves of one configuration's trainings.

    `right` is bool (trainings, images), with twice `seeds` trainings or more; the images are resampled.
    """
    trainings, images = right.shape
    order = random.permuted(np.tile(np.arange(trainings), (replicates, 1)), axis=1)[:, : 2 * seeds]
    drawn = random.integers(0, images, (replicates, 1, images))
    sampled = right[order[:, :, None], drawn]
    return float((analysis(sampled[:, :seeds], sampled[:, seeds:]) < ALPHA).mean())


def rows(options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield a row of the table for each cell, computed when it is asked for."""
    compare = METHODS[options.method]
    for accuracy, points, (image_sd, interaction_sd), seeds in product(
        options.accuracies, options.seed_points, SPREADS, options.seeds
    ):
        cell = Cell(accuracy, points, image_sd, interaction_sd, seeds, options.images, options.classes)
        truth = [f"{accuracy:.2f}", f"{points:g}", f"{image_sd:g}, {interaction_sd:g}", str(seeds)]
        yield [*truth, *(f"{100 * value:.1f}" for value in measured(cell, compare, options.replicates))]


def measured(cell: Cell, compare: Compare, replicates: int) -> Iterator[float]:
    """Yield the figures of a row, as `HEADINGS` names them."""
    random = np.random.default_rng(0)
    gain = 1 if cell.accuracy < 0.9 else -1  # 10 points above 0.95 are none
    yield false_verdicts(cell, compare, replicates, random)
    yield family_wise(cell, compare, replicates // 2, random)
    yield power(cell, 0.05 * gain, compare, replicates, random)
    yield power(cell, 0.10 * gain, compare, replicates // 2, random, others=2)
    if compare is analysis:
        found = coverage(cell, 0.05 * gain, replicates, random)
        yield from (found.new_seeds, found.same_seeds, found.mean)
        yield from truth_of_forecasts(cell, 0.05 * gain, replicates // 10, random)


HEADINGS = (
    "accuracy", "seed SD, points", "image, interaction SD", "seeds", "false verdicts", "any on a page of ten",
    "5 points found", "10 points found, Holm over 3", "new seeds covered", "same seeds covered", "mean covered",
    "kept, least seeds", "kept, most seeds",
)  # fmt: skip


def print_rows(headings: Sequence[str], found: Iterator[list[str]]) -> None:
    """Print a Markdown table, each row as soon as it is known."""
    for number, row in enumerate(found):
        if number == 0:
            print(f"| {' | '.join(headings[: len(row)])} |\n|{' --- |' * len(row)}", flush=True)
        print(f"| {' | '.join(row)} |", flush=True)


def real_rows(options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the false verdicts on random splits of each configuration of an experiment that has enough seeds."""
    from beans_exp.report.runs.collect import collect
    from beans_exp.report.studies.files import load_studies
    from beans_exp.report.titles import assign_rows
    from beans_exp.schema import TrackingConfig
    from beans_exp.tracking.reader import open_reader
    from beans_exp.tracking.store import store_uri

    reader = open_reader(store_uri(TrackingConfig(uri=options.tracking_uri)), options.experiment)
    groups = collect(reader, reader.records()).groups
    assign_rows(groups, load_studies())
    for group, seeds in product(groups, options.seeds):
        results = group.results
        if results is not None and len(results.right) >= 2 * seeds:
            share = split_verdicts(results.right, seeds, options.splits, np.random.default_rng(0))
            yield [group.title, str(len(results.right)), f"{seeds} : {seeds}", f"{100 * share:.1f}"]


def main() -> None:
    """Print the table of the simulation, or of the splits of an experiment."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--replicates", type=int, default=2000, help="simulated comparisons of a cell (2000)")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--classes", type=int, help="classes among which trainings guess (default: they do not)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--accuracies", type=float, nargs="+", default=[0.70, 0.85, 0.95])
    parser.add_argument("--seed-points", type=float, nargs="+", default=[0, 1, 3])
    parser.add_argument("--method", choices=METHODS, default="analysis")
    parser.add_argument("--experiment", help="an experiment with many seeds of equal configurations")
    parser.add_argument("--tracking-uri", help="the store of the experiment (default: mlruns/ of this folder)")
    parser.add_argument("--splits", type=int, default=1000, help="random splits of an experiment's runs (1000)")
    options = parser.parse_args()
    if options.experiment:
        print_rows(("configuration", "seeds", "split", "false verdicts"), real_rows(options))
    else:
        print_rows(HEADINGS, rows(options))


if __name__ == "__main__":
    main()
