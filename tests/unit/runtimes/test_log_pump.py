"""Lines of several processes are whole and named on one stream."""

from __future__ import annotations

import os
from pathlib import Path

from tenfold.runtimes.log_pump import LogPump


def written(folder: Path, *parts: tuple[str, bytes]) -> list[str]:
    out = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pump = LogPump(out)
    pipes: dict[str, int] = {}
    for name, data in parts:
        if name not in pipes:
            pipes[name] = pump.pipe(name)
        os.write(pipes[name], data)
    for pipe in pipes.values():
        os.close(pipe)
    pump.close()
    os.close(out)
    return (folder / "log").read_text().splitlines()


def test_what_is_no_json_gets_the_name_of_its_process(tmp_path: Path) -> None:
    lines = written(tmp_path, ("web-1", b'hello\n{"event":"x"}\n'))
    assert lines == ["web-1 | hello", '{"event":"x"}']


def test_lines_that_come_in_pieces_are_put_together(tmp_path: Path) -> None:
    parts = [("a", b"one "), ("b", b"two "), ("a", b"half\n"), ("b", b"half\n"), ("a", b"no end")]
    assert sorted(written(tmp_path, *parts)) == ["a | no end", "a | one half", "b | two half"]


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    pump = LogPump(write)
    pipe = pump.pipe("web-1")
    for _ in range(10):
        os.write(pipe, b"x" * 60_000 + b"\n")
    os.close(pipe)
    pump.close()
    os.close(write)
