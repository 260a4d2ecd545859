"""Both sides of the slave conversation: every pair of session and message."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from piwheels.model.builds import Outcome, Phase
from piwheels.model.errors import IllegalMessage
from piwheels.protocol import slave as said
from piwheels.rules import slave_session as master
from piwheels.slave import session as slave

LEASE, OTHER = b"a" * 16, b"b" * 16
LOG = said.DeliveredFile(said.LOG_NAME, 1, "0" * 64)
TARGET = said.OfferedTarget("cp311-linux_x86_64", "CPython 3.11", "3.11.2", ("py3-none-any",))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HELLO = said.Hello(said.PROTOCOL, "pi", TARGET, said.Resources(), NOON)
ORDER = said.Build(
    LEASE,
    1,
    "six",
    "1.0",
    said.OrderedSdist("six-1.0.tar.gz", "http://localhost/six-1.0.tar.gz", "0" * 64, 1),
    said.OrderedLimits(1.0, 1.0, 0, 0, 0, 0),
)
BUILT = said.Built(LEASE, Outcome.SUCCESS, 1.0, LOG)
NAMES = (said.LOG_NAME,)
SPEAKER = master.Speaker(1, b"run" + bytes(13))
TIMING = master.Timing()
PACE = slave.Pace(heartbeat=15, silence=20)

MASTER_SESSIONS = [
    master.Stranger(),
    master.Greeting(HELLO),
    master.Ready(SPEAKER),
    master.Asking(SPEAKER),
    master.Working(SPEAKER, LEASE),
]
MASTER_EVENTS = [
    HELLO,
    said.Idle(),
    said.Busy(LEASE, Phase.BUILDING),
    BUILT,
    said.Sent(LEASE),
    said.Bye(),
    master.Registered(SPEAKER),
    ORDER,
    master.Nothing("the queue is empty"),
    master.Dismissed("another process speaks as this slave"),
    master.Extended(),
    master.Void("not wanted"),
    master.Missing(NAMES),
    master.Unreported(),
    master.Committed(),
]
SLAVE_SESSIONS = [
    slave.Greeting(PACE, 0),
    slave.Waiting(PACE, 0),
    slave.Resting(PACE, 10),
    slave.Building(PACE, 0, LEASE),
    slave.Reporting(PACE, 0, BUILT),
    slave.Delivering(PACE, 0, BUILT),
    slave.Confirming(PACE, 0, BUILT),
    slave.Stopping(PACE, LEASE),
    slave.Gone(),
]
SLAVE_EVENTS = [
    said.Ack(1, 15.0, 20.0),
    said.Die("too old"),
    said.Who(),
    ORDER,
    said.Sleep(5.0, "nothing waits"),
    said.Continue(),
    said.Cancel("not wanted"),
    said.Send(NAMES),
    said.Done(),
    slave.Tick(),
    slave.Proceeded(),
    slave.Finished(BUILT),
    slave.Finished(None),
    slave.Delivered(),
    slave.Quit(),
]


def name(value):
    return type(value).__name__


def says(actions):
    return [action.message for action in actions if isinstance(action, master.Reply)]


@pytest.mark.parametrize("event", MASTER_EVENTS, ids=name)
@pytest.mark.parametrize("session", MASTER_SESSIONS, ids=name)
def test_the_dispatcher_has_one_answer_to_every_message_or_calls_it_illegal(session, event):
    if (type(session), type(event)) not in master.TRANSITIONS:
        with pytest.raises(IllegalMessage, match=name(event)):
            master.step(session, event, TIMING)
        return
    after, actions = master.step(session, event, TIMING)
    assert type(after) in {type(each) for each in MASTER_SESSIONS}
    requests = [action for action in actions if not isinstance(action, master.Reply)]
    assert len(says(actions)) <= 1
    assert len(requests) <= 1
    for message in says(actions):
        assert said.TO_SLAVE.decode(said.TO_SLAVE.encode(message)) == message


@pytest.mark.parametrize("event", SLAVE_EVENTS, ids=name)
@pytest.mark.parametrize("session", SLAVE_SESSIONS, ids=name)
def test_the_slave_has_a_reaction_to_every_event_or_calls_it_illegal(session, event):
    if (type(session), type(event)) not in slave.TRANSITIONS:
        with pytest.raises(IllegalMessage, match=name(event)):
            slave.step(session, event, 5.0)
        return
    after, actions = slave.step(session, event, 5.0)
    assert type(after) in {type(each) for each in SLAVE_SESSIONS}
    spoken = [a for a in actions if isinstance(a, slave.Say | slave.SayHello | slave.SayIdle)]
    assert len(spoken) <= 1, "one question at a time"
    assert isinstance(after, slave.Gone) == any(isinstance(a, slave.Leave) for a in actions) or (
        isinstance(session, slave.Gone)
    )


@pytest.mark.parametrize("message", [said.Idle(), BUILT, said.Sent(LEASE)], ids=name)
def test_a_stranger_is_asked_who_it_is(message):
    _, actions = master.step(master.Stranger(), message, TIMING)
    assert says(actions) == [said.Who()]


def test_a_slave_of_another_protocol_is_told_what_to_install():
    hello = said.Hello(said.PROTOCOL + 1, "pi", TARGET, said.Resources(), NOON)
    _, [action] = master.step(master.Stranger(), hello, TIMING)
    assert "same version of piwheels" in action.message.reason


@pytest.mark.parametrize(
    "session",
    [master.Ready(SPEAKER), master.Asking(SPEAKER), master.Working(SPEAKER, OTHER)],
    ids=name,
)
def test_what_a_known_slave_says_counts_whatever_it_said_before(session):
    working, [extend] = master.step(session, said.Busy(LEASE, Phase.BUILDING), TIMING)
    assert working == master.Working(SPEAKER, LEASE)
    assert extend == master.Extend(SPEAKER, said.Busy(LEASE, Phase.BUILDING))
    working, [conclude] = master.step(session, said.Sent(LEASE), TIMING)
    assert conclude == master.Conclude(SPEAKER, LEASE)


def test_a_slave_that_must_leave_is_told_why_and_forgotten():
    dismissed = master.Dismissed("another process speaks as this slave")
    stranger, actions = master.step(master.Asking(SPEAKER), dismissed, TIMING)
    assert stranger == master.Stranger()
    assert says(actions) == [said.Die(dismissed.reason)]


def test_whoever_speaks_is_known_by_number_and_process():
    hello = replace(HELLO, run=SPEAKER.run)
    greeting, [register] = master.step(master.Stranger(), hello, TIMING)
    assert register == master.Register(hello)
    ready, actions = master.step(greeting, master.Registered(SPEAKER), TIMING)
    assert ready == master.Ready(SPEAKER)
    assert says(actions) == [said.Ack(SPEAKER.slave, TIMING.heartbeat, TIMING.silence)]


def test_a_master_that_forgot_us_is_told_of_the_build_in_progress():
    building = slave.Building(PACE, 0, LEASE)
    greeting, [hello] = slave.step(building, said.Who(), 5.0)
    assert hello == slave.SayHello(LEASE)
    assert slave.step(greeting, said.Ack(1, 15.0, 20.0, lease=LEASE), 6.0) == (
        slave.Building(slave.Pace(15, 20), 6.0, LEASE),
        [],
    )


def test_a_delivery_goes_on_while_the_master_learns_who_we_are():
    delivering = slave.Delivering(PACE, 0, BUILT, NAMES, 2)
    greeting, actions = slave.step(delivering, said.Who(), 5.0)
    assert actions == [slave.SayHello(LEASE)]
    again, actions = slave.step(greeting, said.Ack(1, 15.0, 20.0, lease=LEASE), 6.0)
    assert (again, actions) == (slave.Delivering(slave.Pace(15, 20), 6.0, BUILT, NAMES, 2), [])


def test_a_delivery_that_ends_while_greeting_begins_with_the_result_again():
    greeting, _ = slave.step(slave.Delivering(PACE, 0, BUILT, NAMES), said.Who(), 5.0)
    greeting, _ = slave.step(greeting, slave.Delivered(), 6.0)
    _, actions = slave.step(greeting, said.Ack(1, 15.0, 20.0, lease=LEASE), 7.0)
    assert actions == [slave.Say(BUILT)]


def test_no_work_is_asked_for_before_an_unwanted_delivery_has_ended():
    greeting, _ = slave.step(slave.Delivering(PACE, 0, BUILT, NAMES), said.Who(), 5.0)
    stopping, actions = slave.step(greeting, said.Ack(1, 15.0, 20.0), 6.0)
    assert actions == [slave.Abort()]
    _, actions = slave.step(stopping, slave.Delivered(), 7.0)
    assert actions == [slave.Forget(LEASE), slave.SayIdle()]


def test_the_answer_to_a_hello_said_before_the_slave_was_told_to_quit_is_no_news():
    greeting, _ = slave.step(slave.Building(PACE, 0, LEASE), said.Who(), 5.0)
    stopping, _ = slave.step(greeting, slave.Quit(), 6.0)
    assert slave.step(stopping, said.Ack(1, 15.0, 20.0, lease=LEASE), 7.0) == (stopping, [])


def test_a_process_that_cannot_deliver_makes_room_for_another_and_leaves_it_the_result():
    session = slave.Reporting(PACE, 0, BUILT)
    for _ in range(slave.MOST_DELIVERIES):
        session, [deliver] = slave.step(session, said.Send(NAMES), 1.0)
        assert deliver == slave.Deliver(BUILT, NAMES)
        session, actions = slave.step(session, slave.Delivered(), 2.0)
        assert actions == [slave.Say(said.Sent(LEASE))]
    gone, [leave] = slave.step(session, said.Send(NAMES), 3.0)
    assert gone == slave.Gone()
    assert "cannot be delivered" in leave.reason
    assert not leave.is_final


def test_deliveries_are_counted_anew_when_some_files_arrived():
    session = slave.Confirming(PACE, 0, BUILT, (said.LOG_NAME, "six.whl"), slave.MOST_DELIVERIES)
    delivering, _ = slave.step(session, said.Send(NAMES), 1.0)
    assert delivering.deliveries == 1


def test_a_report_that_was_lost_with_its_lease_is_asked_for_again():
    _, actions = master.step(master.Working(SPEAKER, LEASE), master.Unreported(), TIMING)
    assert says(actions) == [said.Who()]
    greeting, _ = slave.step(slave.Confirming(PACE, 0, BUILT), said.Who(), 1.0)
    _, actions = slave.step(greeting, said.Ack(1, 15.0, 20.0, lease=LEASE), 2.0)
    assert actions == [slave.Say(BUILT)]


def test_a_build_that_ends_while_greeting_is_reported_once_welcome():
    greeting, _ = slave.step(slave.Building(PACE, 0, LEASE), said.Who(), 5.0)
    greeting, _ = slave.step(greeting, slave.Finished(BUILT), 6.0)
    reporting, actions = slave.step(greeting, said.Ack(1, 15.0, 20.0, lease=LEASE), 7.0)
    assert isinstance(reporting, slave.Reporting)
    assert actions == [slave.Say(BUILT)]


def test_a_build_the_master_does_not_want_any_more_is_ended():
    greeting, _ = slave.step(slave.Building(PACE, 0, LEASE), said.Who(), 5.0)
    stopping, actions = slave.step(greeting, said.Ack(1, 15.0, 20.0), 6.0)
    assert actions == [slave.Abort()]
    _, actions = slave.step(stopping, slave.Finished(None), 7.0)
    assert actions == [slave.Forget(LEASE), slave.SayIdle()]


def test_a_kept_result_is_offered_first_thing():
    greeting, [hello] = slave.begin(0.0, LEASE, BUILT)
    assert hello == slave.SayHello(LEASE)
    _, actions = slave.step(greeting, said.Ack(1, 15.0, 20.0, lease=LEASE), 1.0)
    assert actions == [slave.Say(BUILT)]


def test_what_is_not_answered_is_said_again():
    for session, again in [
        (slave.Greeting(PACE, 0), slave.SayHello(None)),
        (slave.Waiting(PACE, 0), slave.SayIdle()),
        (slave.Reporting(PACE, 0, BUILT), slave.Say(BUILT)),
        (slave.Confirming(PACE, 0, BUILT), slave.Say(said.Sent(LEASE))),
        (slave.Building(PACE, 0, LEASE), slave.SayBusy(LEASE)),
        (slave.Delivering(PACE, 0, BUILT), slave.SayBusy(LEASE)),
    ]:
        assert slave.step(session, slave.Tick(), 1.0) == (session, [])
        assert slave.step(session, slave.Tick(), 25.0)[1] == [again]


def test_a_slave_told_to_quit_hands_its_build_back():
    stopping, [abort] = slave.step(slave.Building(PACE, 0, LEASE), slave.Quit(), 1.0)
    assert abort == slave.Abort()
    _, actions = slave.step(stopping, slave.Finished(None), 2.0)
    assert actions == [slave.Forget(LEASE), slave.Say(said.Bye()), slave.Leave("")]


@pytest.mark.parametrize(
    "session", [slave.Reporting(PACE, 0, BUILT), slave.Confirming(PACE, 0, BUILT)], ids=name
)
def test_a_slave_told_to_quit_keeps_a_result_that_is_not_delivered(session):
    _, actions = slave.step(session, slave.Quit(), 1.0)
    assert not any(isinstance(action, slave.Forget) for action in actions)
    assert slave.Leave("") in actions


def test_a_build_that_ends_as_the_slave_is_told_to_quit_is_kept():
    stopping, _ = slave.step(slave.Building(PACE, 0, LEASE), slave.Quit(), 1.0)
    assert slave.step(stopping, slave.Finished(BUILT), 2.0)[1] == [slave.Leave("")]


def test_a_slave_that_is_sent_away_does_not_come_back_as_it_is():
    _, actions = slave.step(slave.Greeting(PACE, 0), said.Die("too old"), 1.0)
    assert slave.Leave("too old", is_final=True) in actions


def test_a_slave_whose_builder_failed_may_come_back():
    _, actions = slave.step(slave.Building(PACE, 0, LEASE), slave.Finished(None), 1.0)
    (leave,) = (action for action in actions if isinstance(action, slave.Leave))
    assert leave.reason
    assert not leave.is_final
