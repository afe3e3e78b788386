"""Retry a job that ran out of memory with half the microbatch."""

from omegaconf import DictConfig, OmegaConf


def halve_microbatch(config: DictConfig) -> list[str]:
    """Return the override that halves `trainer.microbatch` (null: the batch); none if it cannot be halved."""
    trainer = OmegaConf.select(config, "trainer", default={})
    half = (trainer.get("microbatch") or trainer.get("batch_size", 0)) // 2
    return [f"trainer.microbatch={half}"] if half else []
