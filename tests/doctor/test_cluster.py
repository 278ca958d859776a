"""`make cluster`: two nodes as processes, of which one has two workers, on PostgreSQL and Valkey."""

import os
from functools import partial
from pathlib import Path

import pytest

from chatserver.exits import EXIT_CLEAN
from tests import cluster
from tests.support import postgres
from tests.support.peers import ask, chatter
from tests.support.serving import sample, server_process, until
from tests.support.valkeys import url_of, valkeys


@pytest.fixture
def forked_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only workers start an interpreter, 0.4 s of CPU each. The last test starts a node as `make cluster` does."""
    monkeypatch.setattr(cluster, "server_process", partial(server_process, is_forked=True))


@pytest.mark.usefixtures("forked_nodes")
async def test_the_nodes_are_one_chat_and_end_cleanly(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Each node had made a token key of its own, in its folder."""
    monkeypatch.chdir(tmp_path)
    with valkeys(tmp_path, cluster.SHARDS) as shards:
        flags = ("--log", postgres_url, "--shared", url_of(shards), "--token-key", "chat.key")
        async with (
            cluster.nodes(folder(tmp_path, "alone"), (0,), flags) as alone,
            cluster.nodes(folder(tmp_path, "workers"), (0,), ("--workers", "2", *flags)) as workers,
        ):
            running = [*alone, *workers]
            async with chatter(running[0].address) as ann, chatter(running[1].address) as bob:
                for each in (ann, bob):
                    await each.ask("join", room="lobby")
                ack = await ann.ask("publish", room="lobby", text="from the other side")
                heard = await bob.next("message")
                assert (heard["offset"], heard["cursor"]) == (ack["offset"], ack["cursor"])
            report = await cluster.examined(running)
            # The node's first line came once one of its workers was ready.
            await until(
                partial(ask, running[1].address, "GET", "/metrics"),
                lambda answer: sample(answer.body, "chatserver_workers_ready") == 2,
            )
        assert [each for each in report.findings if each.severity == "fault"] == []
        assert {(each.readable, each.present) for each in report.deliveries} == {(True, True)}
        assert {(each.log, str(each.shards)) for each in report.nodes} == {
            ("postgresql", "Shards(reachable=2, of=2)"),
        }  # fmt: skip
        assert [node.process.returncode for node in running] == [EXIT_CLEAN] * 2
        for node in running:
            assert '"level": "error"' not in node.errors
    keys = [folder for folder, _, files in os.walk(tmp_path) if "chat.key" in files]
    assert keys == [str(tmp_path)]


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(postgres, "find_programs", lambda: None)
    assert cluster.main([]) == 1
    said = capsys.readouterr().err
    assert said == "cluster: PostgreSQL is not installed; on Debian: apt install postgresql\n"


async def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(cluster.NodeEndedError, match="node 1 did not start: chatserver: --log: 'nowhere' is none of"):
        async with cluster.nodes(tmp_path, (0,), ("--log", "nowhere")):
            pass
