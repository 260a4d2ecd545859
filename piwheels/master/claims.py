"""Which build goes to which slave that asks for one."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict, replace

from sqlalchemy import Connection

from piwheels.database import leases
from piwheels.database.leases import Alike, Asker, Order
from piwheels.database.queue import judge_again
from piwheels.model.builds import FailureClass, Limits
from piwheels.model.queue import Lane
from piwheels.protocol.slave import Build, OrderedLimits, OrderedSdist
from piwheels.rules import resources
from piwheels.rules.lanes import favoured
from piwheels.rules.queue import is_native_on_pypi
from piwheels.rules.slave_session import Dismissed, Nothing, Speaker
from piwheels.rules.slave_state import SlaveState, task_of, why_no_work

NOTHING = "nothing waits for this target"
FIRST, LAST = min(Lane), max(Lane)


def draw_token() -> bytes:
    """An unguessable name for a lease."""
    return secrets.token_bytes(16)


def grant(
    connection: Connection,
    speakers: Sequence[Speaker],
    seconds: float,
    draw: Callable[[], bytes] = draw_token,
) -> tuple[dict[Speaker, Order | Nothing | Dismissed], dict[Speaker, int]]:
    """Give each of these slaves what it holds already, or the best that waits for it.

    Returns the answers, and the slaves' targets.
    """
    askers = leases.asking(connection, [speaker.slave for speaker in speakers])
    answers: dict[Speaker, Order | Nothing | Dismissed] = {}
    held, free = [], []
    for speaker in speakers:
        asker = askers[speaker.slave]
        refusal = refused(asker, speaker.run)
        if isinstance(refusal, Dismissed):
            answers[speaker] = refusal
            _free(connection, asker, speaker.run)
        elif asker.build_id is not None:
            held.append(asker.build_id)  # it may not have heard of it
        elif refusal:
            answers[speaker] = refusal
        else:
            free.append(asker)
    orders = _claim(connection, free, held, seconds, draw)
    for speaker in speakers:
        if speaker not in answers:
            answers[speaker] = orders.get(speaker.slave) or Nothing(NOTHING)
    return answers, {speaker: askers[speaker.slave].slave.target_id for speaker in speakers}


def refused(asker: Asker, run: bytes) -> Nothing | Dismissed | None:
    """Why this slave gets no work now, or never again; None if it may have some."""
    slave = asker.slave
    if asker.run != run:
        return Dismissed(taken(slave.label))
    match why_no_work(slave, asker.now):
        case None:
            return None if asker.is_active else Nothing("nothing is built for this target now")
        case SlaveState.LEAVING:
            return Dismissed(
                "an operator wants this slave to leave: start it again to have it back"
            )
        case _:
            return Nothing(task_of(slave, asker.now))


def taken(label: str) -> str:
    """What a process hears whose name another one has by now."""
    return f"another process took the name {label}: give one of the two another --label"


def _free(connection: Connection, asker: Asker, run: bytes) -> None:
    """Give back what a slave that is sent away holds; without blame, others may build it."""
    if asker.run == run and asker.build_id is not None and asker.version_id is not None:
        leases.end(connection, [asker.build_id])
        judge_again(connection, [asker.version_id])


def _claim(
    connection: Connection,
    askers: Iterable[Asker],
    held: Sequence[int],
    seconds: float,
    draw: Callable[[], bytes],
) -> dict[int, Order]:
    """What slaves are to build now, by slave_id: those of the leases *held*, and the *askers*.

    Small slaves choose first: large ones can do more.
    """
    waiting, orders = _alike(askers, draw), dict[int, Order]()
    while waiting or held:
        first = {group.target_id: group for group in reversed(waiting)}
        found = leases.claim(connection, list(first.values()), seconds, held)
        orders |= found
        left = [group for group in waiting if first[group.target_id] is not group]
        again = [_left(group, found) for group in first.values() if _is_lot(group)]
        waiting, held = [*(group for group in again if group.askers), *left], ()
    return orders


def _alike(askers: Iterable[Asker], draw: Callable[[], bytes]) -> list[Alike]:
    """Groups of slaves that can do the same, the smallest first; each draws a lot for all."""
    found: dict[tuple[int, int], list[tuple[int, bytes]]] = defaultdict(list)
    for asker in askers:
        slave = asker.slave
        found[slave.size, slave.target_id].append((slave.slave_id, draw()))
    groups = []
    for (size, target_id), alike in sorted(found.items()):
        lot = favoured(alike[0][1])
        first, last = (FIRST, LAST) if lot is None else (lot, lot)
        groups.append(Alike(target_id, size, tuple(alike), first, last))
    return groups


def _is_lot(group: Alike) -> bool:
    """Whether the group took from a lane drawn by lot, and may now take from all."""
    return (group.first_lane, group.last_lane) != (FIRST, LAST)


def _left(group: Alike, found: Container[int]) -> Alike:
    """Those that found nothing in their lot's lane."""
    askers = tuple(asker for asker in group.askers if asker[0] not in found)
    return replace(group, askers=askers, first_lane=FIRST, last_lane=LAST)


def build(order: Order, limits: Limits, allow_network: bool) -> Build:
    """What the slave is told. limits: the usual ones."""
    granted = resources.limits(limits, order.seconds, order.failures)
    is_legacy = FailureClass.LEGACY_TOOLS in order.failures
    return Build(
        lease=order.token,
        build_id=order.build_id,
        package=order.package,
        version=order.version,
        sdist=OrderedSdist(**asdict(order.sdist)),
        limits=OrderedLimits(**asdict(granted)),
        network=allow_network or order.network,
        native=is_native_on_pypi(order.pypi_tags),
        tools_before=order.released if is_legacy else None,
    )
