"""The other commands, with the product running and without."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest


def note(url: str, text: str) -> None:
    request = urllib.request.Request(
        url + "/v1/notes",
        json.dumps({"text": text}).encode(),
        {"content-type": "application/json", "prefer": "wait=5"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def dead_letters(pad: Any) -> list[dict[str, Any]]:
    """The dead letters, as soon as there are any: another process makes them."""
    for _ in range(50):
        found: list[dict[str, Any]] = pad.json("queue", "dead")
        if found:
            return found
    raise AssertionError("no dead letter came")


@pytest.fixture(params=["running", "stopped"])
def one_dead(request: pytest.FixtureRequest, pad: Any) -> Any:
    started = pad.start()
    note(started.url, "bad idea")
    dead_letters(pad)
    if request.param == "stopped":
        assert started.stop() == 0
    yield pad
    if request.param == "running":
        assert started.stop() == 0


def test_a_dead_letter_is_listed_shown_and_discarded(one_dead: Any) -> None:
    (entry,) = dead_letters(one_dead)
    assert (entry["handler"], entry["state"], entry["attempts"]) == ("fail", "dead", 1)
    assert "bad idea cannot be done" in entry["last_error"]
    shown = one_dead.json("queue", "show", entry["ref"])
    assert json.loads(shown["message"])["payload"] == {"text": "bad idea"}
    assert "bad idea" in one_dead("queue", "list").stdout
    assert one_dead.json("queue", "discard", entry["ref"]) == {"discarded": 1}
    assert one_dead.json("queue", "dead") == []


def test_a_retried_entry_runs_again_when_the_product_runs(pad: Any) -> None:
    started = pad.start()
    note(started.url, "bad idea")
    dead_letters(pad)
    assert pad.json("queue", "retry", "--all-dead") == {"retried": 1}
    (entry,) = dead_letters(pad)
    assert entry["attempts"] == 1
    assert started.stop() == 0
    assert pad.json("queue", "retry", entry["ref"]) == {"retried": 1}
    assert pad.json("queue", "dead") == []
    started = pad.start()
    (entry,) = dead_letters(pad)
    assert entry["attempts"] == 1
    assert started.stop() == 0


def test_past_events_are_given_to_a_subscription_again(pad: Any) -> None:
    started = pad.start()
    for number in range(3):
        note(started.url, f"note {number}")
    assert pad.json("queue", "replay", "notes.heard")["added"] == 4  # one was seeded
    assert pad.json("queue", "replay", "notes.heard", "--upto", "1")["added"] == 1
    assert "(run " in pad("queue", "replay", "notes.heard", "--since", "2020-01-01").stdout
    assert "projections rebuild notes seen" in pad("queue", "replay", "notes.seen.noted").stderr
    assert "module.handler" in pad("queue", "replay", "notes").stderr
    assert started.stop() == 0


LOOKS = [
    (["queue", "counts"], 0),
    (["queue", "list"], 0),
    (["queue", "dead"], 0),
    (["queue", "show", "notes:{number}"], 0),
    (["queue", "cancel", "notes:{number}"], 1),
    (["queue", "retry", "--all-dead"], 0),
    (["projections", "list"], 0),
]


@pytest.mark.campaign
def test_whoever_looks_at_a_stopped_product_runs_none_of_its_work(pad: Any) -> None:
    pad.change(
        "    @job(attempts=1)\n",
        "    async def started(self) -> None:\n"
        "        with open('starts', 'a') as file:\n"
        "            file.write('started ')\n\n"
        "    @job(attempts=1)\n",
        "padkit/module.py",
    )
    started = pad.start()
    note(started.url, "bad idea")
    dead_letters(pad)
    assert started.stop() == 0
    assert pad.json("queue", "retry", "--all-dead") == {"retried": 1}
    waiting = pad.json("queue", "list")
    assert [(entry["handler"], entry["state"], entry["attempts"]) for entry in waiting] == [
        ("fail", "waiting", 0)
    ]
    for look, code in LOOKS:
        done = pad(*(word.format(number=waiting[0]["id"]) for word in look))
        assert done.returncode == code, done.stderr
    assert pad.json("queue", "list") == waiting
    assert (pad.root / "starts").read_text() == "started "
    assert pad.json("queue", "discard", waiting[0]["ref"]) == {"discarded": 1}


def test_what_a_killed_process_had_claimed_is_left_to_the_next_start(pad: Any) -> None:
    pad.change(
        '        raise ValueError(f"{text} cannot be done")\n',
        "        with open('tries', 'a') as file:\n"
        "            file.write('tried ')\n"
        "        await asyncio.sleep(60)\n",
        "padkit/module.py",
    )
    started = pad.start()
    note(started.url, "bad idea")
    tries = pad.root / "tries"
    while not tries.exists() or tries.read_text() != "tried ":
        assert started.process.poll() is None
    assert started.stop(signal.SIGKILL) == -signal.SIGKILL
    for _ in range(2):
        (entry,) = pad.json("queue", "list", "--handler", "fail")
        assert (entry["state"], entry["attempts"]) == ("running", 0)
    assert (pad.root / "tries").read_text() == "tried "


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        *(look for look, _ in LOOKS),
        ["queue", "discard", "--all-dead"],
        ["projections", "rebuild", "notes.seen"],
    ],
)
def test_a_command_on_data_that_is_not_there_makes_none(
    pad: Any, tmp_path: Path, command: list[str], there: bool
) -> None:
    directory = tmp_path / "elsewhere"
    if there:
        directory.mkdir()
    done = pad(*(word.format(number=1) for word in command), "--data", str(directory))
    assert done.returncode == 2
    assert str(directory) in done.stderr
    assert "--data or TENFOLD_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert directory.exists() == there
    assert not there or not list(directory.iterdir())


def test_a_projection_is_rebuilt_into_a_new_generation(one_dead: Any) -> None:
    (before,) = one_dead.json("projections", "list")
    done = one_dead.json("projections", "rebuild", "notes.seen")
    assert done["active"] == before["active"] + 1
    assert (done["building"], done["behind"]) == (None, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["queue", "show", "notes:999"], 1, "no such entry"),
        (["queue", "show", "seventeen"], 2, "`module:number`"),
        (["queue", "show", "notes:²"], 2, "`module:number`"),
        (["queue", "show", "notes:99999999999999999999"], 2, "`module:number`"),
        (["queue", "retry", "notes:999"], 1, "only a dead letter can"),
        (["queue", "list", "--handler", "nope"], 1, "fail"),
        (["queue", "list", "--module", "nots"], 1, "no module"),
        (["queue", "list", "--state", "ded"], 2, "waiting, running or dead"),
        (["queue", "retry"], 2, "--all-dead"),
        (["projections", "rebuild", "seen"], 2, "`module.name`"),
        (["projections", "rebuild", "notes.sen"], 1, "seen"),
        (["queue", "shw"], 2, "show"),
        (["rout"], 2, "routes"),
        (["run", "--prt", "1"], 2, "--prt"),
        (["routes", "--product", "/nowhere"], 2, "no tenfold.toml"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    pad: Any, arguments: list[str], code: int, said: str
) -> None:
    pad.data.mkdir()
    (pad.data / "notes.db").touch()  # an empty file is an empty database
    done = pad(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_routes_lists_every_operation(pad: Any) -> None:
    rows = pad.json("routes")
    assert [row["operation"] for row in rows] == ["notes.note", "notes.count"]
    assert rows[0]["path"] == "/v1/notes"
    assert "POST    /v1/notes  notes.note" in pad("routes").stdout
    assert not pad.data.exists()


def test_migrate_says_what_it_would_do(pad: Any) -> None:
    folder = pad.root / "padkit" / "migrations"
    folder.mkdir()
    (folder / "0001_pages.py").write_text(
        '"""Pages."""\nfrom alembic import op\n'
        'revision = "0001"\ndown_revision = None\n'
        'def upgrade():\n    op.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY)")\n'
    )
    assert [row["module"] for row in pad.json("migrate", "--dry-run")] == ["notes"]
    dry, wet = pad("migrate", "--dry-run"), pad("migrate")
    assert wet.returncode == 0
    assert "0001 Pages." in dry.stdout
    assert "0001 Pages." in wet.stdout
    assert pad("migrate", "--dry-run").stdout == "Nothing to do.\n"


def test_migrate_leaves_a_running_product_alone(pad: Any) -> None:
    started = pad.start()
    done = pad("migrate")
    assert done.returncode == 2
    assert "is held by process" in done.stderr
    assert started.stop() == 0


def test_the_version_is_printed(pad: Any) -> None:
    assert pad("--version").stdout.startswith("tenfold 0.")
