"""The circuit against its theory, whatever order calls begin and end in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from switch.net.billers.circuit import CIRCUIT, Circuit, CircuitEvent, CircuitState

REST_NS = 100


def test_so_many_failures_in_a_row_open_it_and_a_probe_closes_it():
    circuit = Circuit(3, REST_NS)
    for ok in (False, False, True, False, False):
        number = circuit.let_out(0)
        assert number is not None
        (circuit.succeeded if ok else circuit.failed)(number, 0)
    assert circuit.state is CircuitState.CLOSED
    circuit.failed(circuit.let_out(0) or 0, 10)
    assert circuit.state is CircuitState.OPEN
    assert circuit.let_out(10 + REST_NS - 1) is None
    probe = circuit.let_out(10 + REST_NS)
    assert probe is not None
    assert circuit.let_out(10 + REST_NS) is None, "one probe at a time"
    circuit.succeeded(probe, 200)
    assert circuit.state is CircuitState.CLOSED


def test_a_probe_that_fails_or_is_given_up_means_another_rest():
    for end in (Circuit.failed, Circuit.given_up):
        circuit = Circuit(1, REST_NS)
        circuit.failed(circuit.let_out(0) or 0, 0)
        probe = circuit.let_out(REST_NS)
        assert probe is not None
        end(circuit, probe, 150)
        assert circuit.state is CircuitState.OPEN
        assert circuit.let_out(150 + REST_NS - 1) is None
        assert circuit.let_out(150 + REST_NS) is not None


def test_every_state_can_be_left_and_no_change_is_a_standstill():
    assert {state for state, _ in CIRCUIT} == set(CircuitState)
    assert {event for _, event in CIRCUIT} == set(CircuitEvent)
    assert all(state is not to for (state, _), to in CIRCUIT.items())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "succeeded", "failed", "given_up"]),
        st.integers(0, 9),
        st.integers(0, 60),
    ),
    max_size=60,
)


@given(st.integers(1, 4), STEPS)
def test_no_order_of_calls_breaks_its_promises(failures_max, steps):
    circuit, now_ns, opened_ns, probes = Circuit(failures_max, REST_NS), 0, 0, 0
    out: list[tuple[int, CircuitState]] = []
    row = 0
    for what, which, passed_ns in steps:
        now_ns += passed_ns
        before = circuit.state
        if what == "call":
            number = circuit.let_out(now_ns)
            assert circuit.state is before or before is CircuitState.OPEN
            if circuit.state is CircuitState.OPEN:
                assert number is None
                assert now_ns - opened_ns < REST_NS
            if number is not None:
                probing = circuit.state is CircuitState.HALF_OPEN
                probes = 1 if before is not circuit.state else probes + probing
                assert not probing or probes == 1
                out.append((number, circuit.state))
            continue
        if not out:
            continue
        number, _ = out.pop(which % len(out))
        getattr(circuit, what)(number, now_ns)
        if before is CircuitState.CLOSED:
            row = {"succeeded": 0, "failed": row + 1, "given_up": row}[what] if what else row
        if circuit.state is not before:
            row = probes = 0
            assert before is not CircuitState.OPEN, "only asking ends a rest"
        if circuit.state is CircuitState.OPEN and before is not CircuitState.OPEN:
            opened_ns = now_ns
