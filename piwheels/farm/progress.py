"""What a person watching a farm wants to know, from one snapshot to the next. Pure.

Builds that ended become news, once each; builds that run and the rest of the queue become a
picture that is drawn again and again.
"""

from dataclasses import dataclass, field
from datetime import datetime

from piwheels.model.builds import Outcome
from piwheels.protocol.status import Ended, Farm, Running


@dataclass(frozen=True, slots=True)
class Picture:
    """What is so now. queued: builds that may begin soon; later: retries put off."""

    running: tuple[tuple[Running, float], ...]
    queued: int
    later: int
    built: int
    failed: int
    pages: int
    slaves: int


@dataclass
class Progress:
    """What was seen of the farm. known: builds that ended before we looked, or are told."""

    known: set[int] = field(default_factory=set)
    ended: list[Ended] = field(default_factory=list)
    farm: Farm | None = None
    snapshots: int = 0

    def see(self, farm: Farm) -> list[Ended]:
        """Take in a snapshot; return the builds that ended since the last, oldest first."""
        if self.farm is None:
            self.known.update(build.build_id for build in farm.ended)
        news = [build for build in reversed(farm.ended) if build.build_id not in self.known]
        self.known.update(build.build_id for build in news)
        self.ended += news
        self.farm = farm
        self.snapshots += 1
        return news

    def picture(self) -> Picture:
        """What is so now."""
        farm = self.farm
        if farm is None:
            return Picture((), 0, 0, 0, 0, 0, 0)
        good = sum(build.outcome == Outcome.SUCCESS for build in self.ended)
        return Picture(
            running=tuple((each, seconds(each.since, farm.moment)) for each in farm.running),
            queued=farm.queued,
            later=farm.later,
            built=good,
            failed=len(self.ended) - good,
            pages=farm.pages,
            slaves=sum(slave.state in ("idle", "building") for slave in farm.slaves),
        )

    def is_at_rest(self) -> bool:
        """Whether nothing is being done, or will be soon."""
        now = self.picture()
        return self.farm is not None and not (now.running or now.queued or now.pages)


def seconds(since: datetime, until: datetime) -> float:
    """From *since* to *until*, at least 0."""
    return max(0.0, (until - since).total_seconds())


def in_words(duration: float) -> str:
    """A duration in seconds as people say it: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if duration < 10:
        return f"{duration:.1f} s"
    if duration < 60:
        return f"{duration:.0f} s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
