"""The small world of the stages serves here too."""

from tests.stages.conftest import world

__all__ = ["world"]
