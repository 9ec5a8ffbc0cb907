"""How far training is, and the learning rate that follows from it: warm-up, a plateau, then a decay to nothing.

Progress is the share of the given time (or steps) that is used up, so the decay falls into its last fifth however many
tokens a second the machine managed, and giving more time after an interruption prolongs the plateau.
"""

import time
from datetime import UTC, datetime, timedelta

WARM_UP_STEPS = 60
DECAY_SHARE = 0.2


def parse_clock(text, now=None):
    """Return the next moment, in seconds since the epoch, at which a UTC clock shows `text` ("HH:MM")."""
    now = now or datetime.now(UTC)
    hour, minute = map(int, text.split(":"))
    moment = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return (moment if moment > now else moment + timedelta(days=1)).timestamp()


class Schedule:
    """Progress from 0 to 1 by a clock time, by minutes of training or by steps: whichever is given."""

    def __init__(self, until=None, minutes=None, steps=None, decay=DECAY_SHARE, spent=0.0):
        """until: seconds since the epoch; minutes: of training, all runs together; spent: seconds trained before."""
        self.until, self.minutes, self.steps, self.decay = until, minutes, steps, decay
        self.before, self.begun = spent, time.time()

    @property
    def spent(self):
        """Seconds trained, over all runs."""
        return self.before + time.time() - self.begun

    def progress(self, step):
        """Return the share of training done, 0 to 1; `step`: steps taken."""
        if self.steps:
            return min(1.0, step / self.steps)
        return min(1.0, self.spent / max(1e-9, self.spent + self.left(step)))

    def left(self, step):
        """Return the seconds left, guessed from the pace so far where steps are given."""
        if self.steps:
            return (self.steps - step) * self.spent / max(1, step)
        if self.until:
            return max(0.0, self.until - time.time())
        return max(0.0, self.minutes * 60 - self.spent)

    def scale(self, step):
        """Return what the learning rates are multiplied with, 0 to 1."""
        rest = (1.0 - self.progress(step)) / self.decay
        return min(1.0, (step + 1) / WARM_UP_STEPS, max(0.0, rest))
