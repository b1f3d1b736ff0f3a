"""What is every part of the spec? Frozen, without unknown keys, each field with a sentence."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of the spec: frozen, no unknown keys, documented by the string under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
