"""Which number format this CPU is fast in, by its flags, before TensorFlow is imported."""

import contextlib
import logging
from dataclasses import replace
from pathlib import Path

from beans_exp.schema import Config

log = logging.getLogger("beans_exp")

FAST_BFLOAT16 = {"amx_bf16": ("GenuineIntel", "AuthenticAMD"), "avx512_bf16": ("AuthenticAMD",)}
"""CPU flags, and the vendors on whose CPUs bfloat16 is faster than float32 with them: avx512_bf16 on an Intel
without AMX was measured at half the rate of float32, in a matrix product and in a convolution."""


def resolve_precision(config: Config, cpuinfo: Path = Path("/proc/cpuinfo")) -> Config:
    """Return `config` with `trainer.precision=auto` replaced by the format that suits this CPU."""
    if config.trainer.precision != "auto":
        return config
    flags = fast_flags(cpuinfo)
    precision = "bfloat16" if flags else "float32"
    log.info(
        "trainer.precision=auto: %s (the CPU has %s)",
        precision,
        " and ".join(flags) or "no fast bfloat16 instructions",
    )
    return replace(config, trainer=replace(config.trainer, precision=precision))


def fast_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the flags of this CPU that make bfloat16 worthwhile; none where the system does not list flags."""
    known = _described(cpuinfo)
    fast = [flag for flag, vendors in FAST_BFLOAT16.items() if known["vendor_id"] & {*vendors}]
    return [flag for flag in fast if flag in known["flags"]]


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Return the flags of this CPU; empty where the system does not list them."""
    return _described(cpuinfo)["flags"]


def _described(cpuinfo: Path) -> dict[str, set[str]]:
    """The relevant words of /proc/cpuinfo, by key."""
    found: dict[str, set[str]] = {"flags": set(), "vendor_id": set()}
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            key, _, words = line.partition(":")
            if key.strip() in found:
                found[key.strip()] |= {*words.split()}
    return found
