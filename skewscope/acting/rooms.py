"""Actuators by name, with the settings that the policy holds for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ..acts import Actuator
from ..catalogue import room
from ..errors import UsageError
from ..policy.settings import Policy


def actuators(policy: Policy, names: Sequence[str]) -> dict[str, Actuator]:
    """Return the actuators of these names; raises UsageError for a name or setting that there is not."""
    return {name: actuator(name, policy.settings(name)) for name in names}


def actuator(name: str, settings: Mapping[str, Any]) -> Actuator:
    """Return one actuator with its settings; raises UsageError naming key and mend."""
    kind = room("actuators", name).kind()
    known = {one.name: one for one in dataclasses.fields(kind) if one.init and not one.name.startswith("_")}
    for key in settings:
        if key not in known:
            near = get_close_matches(key, known, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(sorted(known))}"
            raise UsageError(f"[schedulers.{name}] has no setting {key!r}; {hint}")
    try:
        made: Actuator = kind(**{key: _fixed(value) for key, value in settings.items()})
    except (TypeError, ValueError) as error:
        raise UsageError(f"[schedulers.{name}]: {error}") from None
    return made


def _fixed(value: Any) -> Any:  # noqa: ANN401 - TOML values of any type
    return tuple(_fixed(one) for one in value) if isinstance(value, list) else value
