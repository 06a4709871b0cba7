"""state.json: what a checkpoint says of itself, sealed by its own hash.

In:  the state as plain values. Out: its hash, its text.
Holds: the trainer writes it and `verify` reads it by the same words, without torch.
{"step": 50, "rows_done": 400, …, "files": {"model.safetensors": {"bytes": …, "sha256": …}, …}, "sha256": of all this}
"""

import hashlib
import json
from typing import Any

STATE = "state.json"


def state_hash(state: dict[str, Any]) -> str:
    """What state.json says of itself."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def state_text(state: dict[str, Any]) -> str:
    """state.json, whole."""
    return json.dumps(state | {"sha256": state_hash(state)}, indent=2) + "\n"
