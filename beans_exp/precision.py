"""Which number format a CPU is fast in, told by its flags, before TensorFlow is imported."""

import logging
from dataclasses import replace
from pathlib import Path

from beans_exp.schema import Config

log = logging.getLogger("beans_exp")

FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16")
"""CPU flags under which bfloat16 was measured to be faster than float32."""


def resolve_precision(config: Config, cpuinfo: Path = Path("/proc/cpuinfo")) -> Config:
    """Return `config` with `trainer.precision=auto` replaced by what suits this CPU."""
    if config.trainer.precision != "auto":
        return config
    flags = fast_flags(cpuinfo)
    precision = "bfloat16" if flags else "float32"
    log.info(
        "trainer.precision=auto: %s, for the CPU has %s", precision, " and ".join(flags) or "no bfloat16 instructions"
    )
    return replace(config, trainer=replace(config.trainer, precision=precision))


def fast_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The flags of this CPU that make bfloat16 worth while; none where the system does not tell."""
    return [flag for flag in FAST_BFLOAT16 if flag in cpu_flags(cpuinfo)]


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What this CPU says that it can do; empty where the system does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.startswith("flags") for word in line.split()[2:]}
