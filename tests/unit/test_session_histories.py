"""Both sides of the slave conversation through histories of trouble: no build is lost, none is
committed twice, nobody waits for ever.

A history is a list of numbers, each of them one step: which of STEPS, and to whom it happens.
One that fails shrinks to the steps that matter, and they are told in words.
"""

import os

from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from piwheels.slave import session as slave
from tests.unit.session_model import Ends, Farm, failure, success

THOROUGH = bool(os.environ.get("PIW_TEST_THOROUGH"))
LABELS = ("pi-a", "pi-b", "pi-a")  # the last is a twin by mistake: its own disk, the same name
VARIETIES = 12  # of each step: to whom it happens, and how
RESULTS = {
    "success": success,
    "failure": failure,
    "failure without a log": lambda lease: failure(lease, log=None),
    "nothing": lambda lease: None,
}


# The steps. Each takes the farm and the number of a variety, and returns what happened, in
# words, or None if nothing could.


def a_second_goes_well_while_work_goes_on(farm, number):
    live(farm, 1, Ends.NOTHING)
    return "a second goes well"


def all_goes_well(farm, number):
    seconds, ends = 1 + number % 4, list(Ends)[number % 3]
    live(farm, seconds, ends)
    return f"{seconds} seconds go well; what ends: {ends}"


def live(farm, seconds, ends):
    for _ in farm.live_on(seconds, ends):
        pass


def time_passes(farm, number):
    seconds = (1, 4, 13)[number % 3]
    farm.pass_time(float(seconds))
    return f"{seconds} seconds pass"


def all_frames_arrive(farm, number):
    farm.carry_all()
    return "all frames arrive"


def a_slave_speaks_and_is_answered(farm, number):
    if process := one(farm.processes, number):
        process.loop()
        farm.carry_all(only=process)
        return f"{process.machine} speaks, and is answered"
    return None


def a_slave_has_its_turn(farm, number):
    if process := one(farm.processes, number):
        process.loop()
        return f"{process.machine} has its turn"
    return None


def work_proceeds(farm, number):
    if process := one(at_work(farm), number):
        process.events.append(slave.Proceeded())
        farm.deliver(process, most=1)
        return f"{process.machine} proceeds with its work"
    return None


def work_ends(farm, number):
    if process := one(at_work(farm), number):
        if process.work.names:
            process.end_delivery()
            return f"the delivery of {process.machine} ends"
        result = one(list(RESULTS), number // len(LABELS))
        process.finish(RESULTS[result](process.work.lease))
        return f"the build of {process.machine} ends with {result}"
    return None


def a_slave_starts(farm, number):
    if machine := one([each for each in farm.machines if each.process is None], number):
        machine.start()
        return f"{machine} starts"
    return None


def a_slave_is_killed(farm, number):
    if process := one(farm.processes, number):
        process.machine.kill()
        return f"{process.machine} is killed"
    return None


def a_slave_is_told_to_quit(farm, number):
    if process := one(farm.processes, number):
        process.events.append(slave.Quit())
        return f"{process.machine} is told to quit"
    return None


def a_connection_breaks(farm, number):
    if process := one(farm.processes, number):
        process.machine.to = number // len(LABELS) % 2
        process.connect(process.machine.to)
        return f"{process.machine} is connected anew, to dispatcher {process.to}"
    return None


def kept_files_go_bad(farm, number):
    if machine := one([each for each in farm.machines if each.spool], number):
        machine.bad |= set(machine.spool)
        return f"the files that {machine} keeps cannot be read any more"
    return None


def a_question(farm, number):
    if farm.questions:
        question = farm.questions.pop(at_an_end(farm.questions, number))
        fate = ("arrives", "arrives and will again", "is lost")[number // 4]
        if fate != "is lost":
            farm.carry_question(question)
        if fate == "arrives and will again":
            farm.questions.insert(0, question)
        return f"{question} {fate}"
    return None


def an_answer(farm, number):
    if farm.answers:
        answer = farm.answers.pop(at_an_end(farm.answers, number))
        fate = ("arrives", "arrives", "is lost")[number // 4]
        if fate == "arrives":
            farm.carry_answer(answer)
        return f"{answer} {fate}"
    return None


def a_dispatcher_restarts(farm, number):
    farm.restart(number % 2)
    return f"dispatcher {number % 2} restarts"


def the_keeper_runs(farm, number):
    farm.ledger.expire(farm.wall)
    return "the keeper runs"


def the_clock_of_the_master_steps(farm, number):
    seconds = (-3_600, -20, 20, 3_600)[number % 4]
    farm.wall_is_ahead += seconds
    return f"the clock of the master steps by {seconds} seconds"


def a_version_is_released(farm, number):
    return f"version {farm.want()} is released" if farm.versions < 10 else None


def an_operator_wishes(farm, number):
    if label := one(list(farm.ledger.slaves), number):
        wish = ("work", "rest", "leave")[number // len(LABELS) % 3]
        farm.ledger.slaves[label].wish = wish
        return f"an operator wants {label} to {wish}"
    return None


def an_operator_ends_a_build(farm, number):
    if lease := one(list(farm.ledger.leases.values()), number):
        for_good = number // len(LABELS) == 0
        (farm.ledger.skip if for_good else farm.ledger.cancel)(lease.version)
        return f"an operator ends the build of version {lease.version}; for good: {for_good}"
    return None


def at_an_end(frames, number):
    """One of the newest or oldest: those that make a difference."""
    return (-1, 0, -2, 1)[number % 4] % len(frames)


def at_work(farm):
    return [process for process in farm.processes if process.work is not None]


def one(some, number):
    return some[number % len(some)] if some else None


STEPS = {  # and how often each is drawn
    a_second_goes_well_while_work_goes_on: 6,
    all_goes_well: 2,
    time_passes: 2,
    all_frames_arrive: 4,
    a_slave_speaks_and_is_answered: 6,
    a_slave_has_its_turn: 3,
    work_proceeds: 3,
    work_ends: 6,
    a_slave_starts: 4,
    a_slave_is_killed: 2,
    a_slave_is_told_to_quit: 2,
    a_connection_breaks: 2,
    kept_files_go_bad: 1,
    a_question: 8,
    an_answer: 6,
    a_dispatcher_restarts: 2,
    the_keeper_runs: 2,
    the_clock_of_the_master_steps: 1,
    a_version_is_released: 3,
    an_operator_wishes: 1,
    an_operator_ends_a_build: 1,
}
DRAWN = [step for step, weight in STEPS.items() for _ in range(weight)]


def histories(most):
    """Lists of numbers; where 0 is drawn nothing happens, so it is left out."""
    numbers = st.integers(0, len(DRAWN) * VARIETIES)
    all_of_them = st.lists(numbers, min_size=most, max_size=most)  # else most would be short
    return all_of_them.map(lambda history: [number for number in history if number])


def play(history):
    farm = Farm(LABELS)
    farm.want()
    farm.machines[0].start()
    for number in history:
        which, variety = divmod(number - 1, VARIETIES)
        if happened := DRAWN[which](farm, variety):
            note(happened)
        farm.check()
    note("then there is no more trouble")
    farm.live_on_until_all_is_done()


@settings(
    max_examples=10_000 if THOROUGH else 80,
    phases=set(Phase) - {Phase.explain},  # the words explain it, and sooner
)
@given(histories(120))
def test_nothing_is_lost_or_done_twice_and_nobody_waits_for_ever(history):
    play(history)


# Histories that found something once.


def farm_at_work(ends=Ends.NOTHING):
    farm = Farm(LABELS[:1])
    farm.want()
    farm.machines[0].start()
    live(farm, 2, Ends.NOTHING)
    [process] = farm.processes
    if ends is Ends.BUILDS:
        live(farm, 2, ends)
        assert process.work.names, "it delivers"
    return farm, process


def restart_and_let_the_slave_hear_of_it(farm, process):
    farm.restart(process.to)
    farm.pass_time(3.0)  # BUSY
    farm.carry_all()  # WHO
    assert isinstance(process.session, slave.Greeting)


def test_a_slave_told_to_quit_hears_the_answer_to_the_hello_it_had_said():
    farm, process = farm_at_work()
    restart_and_let_the_slave_hear_of_it(farm, process)
    process.events.append(slave.Quit())
    process.loop()
    farm.carry_all()  # HELLO, and its ACK
    assert isinstance(process.session, slave.Stopping)
    farm.live_on_until_all_is_done()


def test_an_interrupted_delivery_does_not_end_in_the_middle_of_the_next_one():
    farm, process = farm_at_work(Ends.BUILDS)
    under_way = process.work
    restart_and_let_the_slave_hear_of_it(farm, process)
    farm.carry_all()  # HELLO, and its ACK
    assert process.work is under_way
    assert not under_way.is_cancelled
    farm.live_on_until_all_is_done()


def test_a_result_is_reported_again_if_its_lease_was_given_up_while_it_was_delivered():
    farm, process = farm_at_work(Ends.BUILDS)
    farm.now += 13.0  # nobody heard of it for longer than its lease
    farm.ledger.expire(farm.wall)
    [lease] = process.machine.spool
    farm.live_on_until_all_is_done()
    assert farm.ledger.records[lease].kind == "success", "the build that was done already"


def test_files_that_cannot_be_read_any_more_are_built_again():
    farm, process = farm_at_work(Ends.BUILDS)
    process.machine.bad |= set(process.machine.spool)
    farm.live_on_until_all_is_done()
    assert farm.processes != [process]
