"""One round of the soak on each engine, with fixed troubles: no promise is broken, and all clients recover."""

from pathlib import Path

import pytest

from tests.soak.campaign import Campaign
from tests.soak.cluster import one_machine, two_machines
from tests.soak.nodes import Node
from tests.support.postgres import PostgresServer

SEED = 7


def no_word(line: str) -> None:
    """Ignore a line of progress."""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trouble follows the other as soon as all clients have recovered."""
    monkeypatch.setattr("tests.soak.campaign.PAUSE", 0.0)


def check(campaign: Campaign, nodes: list[Node]) -> None:
    """Something was killed, and all clients recovered from each trouble."""
    ledger = campaign.ledger
    assert campaign.rounds == 1
    assert ledger.told_of_loss == 0
    assert ledger.acknowledged + ledger.repeated >= len(campaign.publishers) * campaign.troubles.total()
    assert ledger.seen == 3 * ledger.acknowledged, "each record reaches one listener over each transport"
    assert campaign.scene.signals["SIGKILL"] >= 1
    assert sum(node.starts for node in nodes) > len(nodes)


@pytest.mark.slow
async def test_a_round_on_one_machine_loses_nothing(tmp_path: Path) -> None:
    async with one_machine(tmp_path, is_forked=True) as cluster:
        campaign = Campaign(cluster, SEED, no_word, publishers=2)
        await campaign.play("stop worker", "kill worker", "kill node")
        check(campaign, cluster.nodes)


@pytest.mark.slow
async def test_a_round_on_two_machines_loses_nothing(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = postgres_url.rpartition("/")[2]
    async with two_machines(tmp_path, workers=1, server=postgres_server, name=database, is_forked=True) as cluster:
        campaign = Campaign(cluster, SEED, no_word, publishers=2)
        await campaign.play("kill all backends", "kill worker", "kill writing backend", "forget all", "cut clients")
        check(campaign, cluster.nodes)
