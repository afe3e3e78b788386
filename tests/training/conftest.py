"""Fixtures of the tests that train."""

from tests.shared_models import fast_collections

__all__ = ["fast_collections"]
