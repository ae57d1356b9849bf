"""Buckets of a gradient: runs of consecutive elements that share a scale of their own."""

from pydantic import Field

from ..components import Parameters
from .scaling import Layout


class Bucketed(Parameters):
    bucket_size: int | None = Field(
        None, ge=1, le=2**30, description="consecutive elements that share a scale; none: the whole tensor"
    )

    def layout(self, count: int) -> Layout:
        """The rows of a tensor of ``count`` elements."""
        if self.bucket_size is None or self.bucket_size >= count:
            return Layout("tensor")
        return Layout("group", self.bucket_size)
