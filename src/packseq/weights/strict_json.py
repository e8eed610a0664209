"""JSON as checkpoints hold it, read strictly."""

import json
from typing import Any

from .errors import CheckpointError, library_errors


def parse_json(text: bytes, what: str) -> Any:
    """JSON in which no object has a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, value in pairs:
            if name in members:
                raise CheckpointError(f"{what}: key {name!r} appears twice")
            members[name] = value
        return members

    with library_errors(f"{what}: not JSON"):
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique)
