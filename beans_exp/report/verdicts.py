"""A comparison's verdict in words, with the data that would settle it."""

from collections.abc import Iterator

from beans_exp.report.bootstrap import Comparison
from beans_exp.report.statistics import LEVEL


def verdict_in_words(comparison: Comparison) -> tuple[str, str]:
    """Return the verdict and a caveat: the data that would settle it, or the limits of a single seed."""
    verdict = comparison.verdict
    if verdict == "not distinguishable":
        return verdict, "; ".join(_what_would_settle(comparison))
    if comparison.one_seed:
        return f"{verdict} in this run", f"one seed cannot show whether the configuration is {verdict}"
    return verdict, ""


def _what_would_settle(comparison: Comparison) -> Iterator[str]:
    needs, points = comparison.needs, f"{100 * abs(comparison.difference):.1f} points"
    if comparison.p < 1 - LEVEL:
        yield f"raw p is {comparison.p:.2g}, but not significant after Holm's correction within this table"
        return
    ways = []
    if needs.images and needs.images > comparison.images:
        ways.append(f"about {_rounded(needs.images)} test images (now {comparison.images})")
    if needs.seeds and needs.seeds > min(comparison.seeds):
        ways.append(f"about {_rounded(needs.seeds)} seeds each (now {min(comparison.seeds)})")
    if not comparison.difference:
        yield "no difference observed"
    elif ways:
        yield f"detecting a difference of {points} takes {' or '.join(ways)}"
    elif needs.images is None and needs.seeds is None:
        yield f"detecting a difference of {points} takes more images and more seeds"
    else:
        yield f"a difference of {points} is at the detection limit of these data"
    if comparison.one_seed:
        yield "one seed cannot show seed-to-seed variance"
    yield f"these data can detect differences of about {100 * needs.detectable:.0f} points or more"


def _rounded(count: int) -> str:
    """Return `count` with two significant digits, because it is an estimate."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"
