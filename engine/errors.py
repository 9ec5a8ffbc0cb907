"""The one error users meet: a line that says what is wrong and what to do."""


class EngineError(Exception):
    """Unusable input or an impossible request; ``str(error)`` is the single line shown to the user."""


class Cancelled(Exception):
    """Long work stopped because the user asked; nothing was lost, the work can be taken up again."""
