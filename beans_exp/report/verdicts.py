"""A comparison's verdict in words, with the data that would settle it."""

from collections.abc import Iterator

from beans_exp.report.statistics.comparison import (
    BETTER,
    SAME,
    WORSE,
    Comparison,
)
from beans_exp.report.statistics.contrast import Contrast
from beans_exp.report.statistics.forecast import MOST_SEEDS, Forecast, forecast
from beans_exp.report.statistics.results import LEVEL
from beans_exp.report.statistics.variance import Variance

HARDLY = 0.2
"""A share of the variance below which removing it hardly helps."""
MUCH_MORE = 1.25
"""How many times as much one remedy must reduce the variance as the other to be named as the better one."""


def verdict_in_words(comparison: Comparison) -> tuple[str, str]:
    """Return the verdict and a caveat: the data that would settle it, or the limits of a single seed."""
    verdict = comparison.verdict
    if comparison.contrast is None:
        return verdict, _of_two_trainings(comparison)
    if verdict == SAME:
        return f"the same within {_points(comparison.margin)}", ""
    if verdict in (BETTER, WORSE):
        within = comparison.p_same_holm < 1 - LEVEL
        return verdict, f"by less than {_points(comparison.margin)}" if within else ""
    return verdict, "; ".join(_what_would_settle(comparison, comparison.contrast))


def _of_two_trainings(comparison: Comparison) -> str:
    test = comparison.mcnemar[0]
    pair = f"seed {test.seed} against seed {test.seed_baseline}"
    counts = f"{test.only_group} : {test.only_baseline} images that only one of them got right"
    lacking = "one seed" if comparison.one_seed else "one test image"
    return f"{pair}, {counts}; {lacking} cannot show which configuration is better"


def _what_would_settle(comparison: Comparison, contrast: Contrast) -> Iterator[str]:
    if comparison.p < 1 - LEVEL:
        yield (
            f"raw p is {comparison.p:.2g}, but not significant after Holm's correction for the {comparison.family} "
            "comparisons of this page"
        )
    needs = forecast(contrast, comparison.corrected_level)
    if not comparison.difference:
        yield "no difference observed"
    else:
        yield f"detecting a difference of {_points(abs(comparison.difference))} takes {_ways(needs, contrast)}"
    yield f"these data can detect differences of about {_points(needs.detectable)} or more"
    yield f"and show that two are the same within {_points(contrast.margin(comparison.corrected_level))}"


def _ways(needs: Forecast, contrast: Contrast) -> str:
    """Return the seeds per side in words, and the images, if their number can be told."""
    least, most = needs.seeds
    if least is None:
        seeds = "more images: no number of seeds is enough"
    elif most is None:
        seeds = f"{least} to more than {MOST_SEEDS} seeds each"
    else:
        seeds = f"{least} to {most} seeds each" if most > least else f"about {least} seeds each"
    now = f" (now {' and '.join(map(str, dict.fromkeys(contrast.seeds)))})" if least else ""
    images = f", or about {_rounded(needs.images)} test images (now {contrast.images})" if needs.images else ""
    return f"{seeds}{now}{images}"


def shares(variance: Variance) -> tuple[float, float, float] | None:
    """Return the shares of images, seeds and their interaction in a variance; None if nothing varies."""
    total = float(variance.total)
    return (variance.images / total, variance.seeds / total, variance.both / total) if total > 0 else None


def source_in_words(variance: Variance) -> str:
    """Return whether more seeds or more images would reduce the variance most; both reduce their interaction."""
    found = shares(variance)
    if found is None:
        return "nothing varies"
    images, seeds, both = found
    gains = {"more seeds": seeds + both, "more images": images + both}
    (more, most), (less, least) = sorted(gains.items(), key=lambda item: -item[1])
    if most < MUCH_MORE * least:
        return "more seeds and more images would help alike"
    return f"{more} would help most; {less} {'hardly' if least < HARDLY else 'less'}"


def _points(value: float) -> str:
    return f"{f'{100 * value:.1f}'.removesuffix('.0')} points"


def _rounded(count: int) -> str:
    """Return `count` with two significant digits, because it is an estimate."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"
