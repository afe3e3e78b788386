"""Fixtures of the tests of models."""

from tests.shared_models import fast_collections

__all__ = ["fast_collections"]
