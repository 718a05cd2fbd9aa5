"""How many examples a test takes that tries a parser with any bytes, or a model with any moves."""

from hypothesis import settings


def examples(many: int) -> int:
    """``many`` with `make explore`, whose seeds are fresh; a third with `make test`, which tries
    the same ones every time."""
    return many if settings.get_current_profile_name() == "explore" else many // 3
