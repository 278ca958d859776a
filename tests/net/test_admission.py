"""Caps by network and in total, and counts that always add up. Who gives up a place: test_reclaim.py."""

from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.admission import Admission
from chatserver.net.connection import network_of
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings
from tests.support.parked import Parked, parked


def admission_of(it: Parked, *, total: int = 100, per_ip: int = 0, proxy: str = "") -> Admission:
    it.admission = Admission(
        it.connections, Settings(per_ip=per_ip), total=total, farewells=[b"503"], uncapped=lambda each: each == proxy
    )
    return it.admission


def test_a_proxy_has_no_cap_and_its_clients_have(it: Parked) -> None:
    admission = admission_of(it, per_ip=2, proxy="192.0.2.9")
    inside = [it.connect(address="192.0.2.9")[0] for _ in range(6)]
    assert [admission.move(each, "192.0.2.1") for each in inside[:3]] == [None, None, Reason.REFUSED_ADDRESS]
    assert [each.network for each in inside[:3]] == ["192.0.2.1", "192.0.2.1", "192.0.2.9"], "it stays where it was"
    assert admission.admit("192.0.2.1") is Reason.REFUSED_ADDRESS
    assert admission.move(inside[0], "192.0.2.9") is None
    assert admission.move(inside[2], "192.0.2.1") is None
    assert admission.statistics() == {"held": 6, "addresses": 2}
    for each in inside:
        it.connections.close(each, Reason.DONE)
    assert admission.statistics() == {"held": 0, "addresses": 0}


def test_a_move_within_a_network_or_at_the_last_place_is_no_newcomer(it: Parked) -> None:
    admission = admission_of(it, per_ip=1, total=1)
    connection = it.connect(address="2001:db8::1")[0]
    for address in ("2001:db8::2", "192.0.2.1"):
        assert admission.move(connection, address) is None
        assert (connection.address, admission.held) == (address, 1)
    it.connections.close(connection, Reason.DONE)
    assert admission.statistics() == {"held": 0, "addresses": 0}


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1"])


@given(st.lists(st.tuples(ADDRESSES, st.booleans())))
def test_counts_add_up(acts: list[tuple[str, bool]]) -> None:
    """A network over its cap is refused for that, even when all is full: nobody goes for a peer that stays out."""
    with parked() as it:
        admission = admission_of(it, total=4, per_ip=2)
        inside: list[str] = []
        for address, comes in acts:
            if not comes:
                if address in inside:
                    inside.remove(address)
                    admission.release(network_of(address))
                continue
            alike = sum(network_of(other) == network_of(address) for other in inside)
            full = Reason.REFUSED_FULL if len(inside) == 4 else None
            answer = admission.admit(address)
            assert answer is (Reason.REFUSED_ADDRESS if alike == 2 else full)
            if answer is None:
                inside.append(address)
        assert admission.statistics() == {"held": len(inside), "addresses": len(set(map(network_of, inside)))}
        for address in inside:
            admission.release(network_of(address))
        assert admission.statistics() == {"held": 0, "addresses": 0}
