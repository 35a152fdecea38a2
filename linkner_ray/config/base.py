"""What all parts of a config have in common."""

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of all parts: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def digest(self) -> str:
        """Name of the content: changes with any value."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
