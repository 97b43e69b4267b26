"""Standard input beside a prompt: silent, broken, for writing only, or replaced by the program around."""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

import pytest
import typer

from any_agent.cli.standard_input import Patience, is_terminal, prompt_of
from any_agent.errors import InvalidInputError

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors as POSIX has them")


@contextmanager
def standing_in(stream: object) -> Iterator[None]:
    """A program that puts its own object where standard input was."""
    before, sys.stdin = sys.stdin, cast(TextIO, stream)
    try:
        yield
    finally:
        sys.stdin = before


@contextmanager
def reading(number: int) -> Iterator[None]:
    with open(number, encoding="utf-8", closefd=False) as stream, standing_in(stream):
        yield


def ends(kind: str) -> tuple[int, int]:
    if kind == "pipe":
        return os.pipe()
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("is_quiet", [False, True], ids=["told", "quiet"])
@pytest.mark.parametrize("kind", ["pipe", pytest.param("socket", marks=posix)])
def test_an_open_input_that_never_speaks_ends_it_before_anything_is_asked(
    kind: str, is_quiet: bool, clock: Callable[[float], float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert Patience() == Patience(3.0, 30.0)
    reader, writer = ends(kind)
    with reading(reader), pytest.raises(typer.BadParameter) as caught:
        prompt_of("hi", is_quiet=is_quiet, patience=Patience(clock(0.05), clock(0.2)))
    os.close(writer)  # only now: it was open all the time
    for thread in threading.enumerate():
        if thread.name == "standard input":
            thread.join(20)
    os.close(reader)
    assert caught.value.exit_code == 2
    assert "said nothing for" in caught.value.message and "nothing was asked" in caught.value.message
    assert "</dev/null" in caught.value.message and "any-agent run -" in caught.value.message
    notes = capsys.readouterr().err
    assert notes.count("waiting for standard input") == (not is_quiet) and notes.count("\n") == (not is_quiet)


@posix
@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("prompt", ["hi", "-"])
def test_what_does_not_block_comes_whole(
    kind: str, prompt: str, clock: Callable[[float], float], capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = ends(kind)
    os.set_blocking(reader, False)

    def speak() -> None:
        for piece in (b"one ", b"two"):
            time.sleep(clock(0.1))  # until it was found empty
            os.write(writer, piece)
        os.close(writer)

    speaker = threading.Thread(target=speak)
    speaker.start()
    with reading(reader):
        assert prompt_of(prompt) == {"hi": "hi\n\none two", "-": "one two"}[prompt]
    speaker.join()
    os.close(reader)
    assert capsys.readouterr().err == {"hi": "  + 7 characters from standard input\n", "-": ""}[prompt]


def test_an_input_that_stays_open_after_its_first_word_is_told_of_and_waited_for(
    clock: Callable[[float], float], capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    code = "import os, sys, time; os.write(1, b'one '); time.sleep(float(sys.argv[1])); os.write(1, b'two')"
    with subprocess.Popen([sys.executable, "-c", code, str(clock(0.4))], stdout=writer):
        os.close(writer)
        with reading(reader):
            patience = Patience(clock(0.1), clock(30))
            assert prompt_of("hi", patience=patience) == "hi\n\none two"
    os.close(reader)
    told = capsys.readouterr().err.splitlines()
    assert told[-2:] == ["  waiting for the end of standard input …", "  + 7 characters from standard input"]


@posix
@pytest.mark.parametrize("prompt", ["hi", "-"])
def test_an_input_that_breaks_is_told_and_nothing_is_asked(prompt: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        theirs.sendall(b"half of it")
        assert ours.recv(4) == b"half"
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()  # with a reset
        with reading(ours.fileno()), pytest.raises(InvalidInputError, match="reset by peer; nothing was asked"):
            prompt_of(prompt)


@posix
@pytest.mark.parametrize("kind", ["device", "file", "pipe"])
def test_an_input_for_writing_only_is_none(kind: str, tmp_path: Path) -> None:
    """As nohup hands it on."""
    reader, writer = os.pipe()
    path = os.devnull if kind == "device" else tmp_path / "file"
    number = writer if kind == "pipe" else os.open(path, os.O_WRONLY | os.O_CREAT)
    with io.TextIOWrapper(io.BufferedReader(io.FileIO(number, closefd=False))) as stream, standing_in(stream):
        assert prompt_of("hi") == "hi"
        for argument in ("-", None):
            with pytest.raises(typer.BadParameter, match="nothing was asked: give a prompt"):
                prompt_of(argument)
    for one in {reader, writer, number}:
        os.close(one)


class _Refusing(io.TextIOBase):
    """As test runners put it there."""

    def read(self, size: int | None = -1, /) -> str:
        raise OSError("reading from stdin while output is captured")


def _closed() -> io.StringIO:
    stream = io.StringIO("x")
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream",
    [None, io.StringIO(""), _closed(), _Refusing(), object()],
    ids=["none", "empty", "closed", "pytest", "odd"],
)
def test_a_replaced_input_without_text_is_none(stream: object) -> None:
    with standing_in(stream):
        assert not is_terminal()
        assert prompt_of("hi") == "hi"
        with pytest.raises(typer.BadParameter, match="nothing was asked: give a prompt"):
            prompt_of("-")


def test_under_the_capture_of_pytest_itself() -> None:
    assert prompt_of("hi") == "hi"


def test_text_in_memory_is_read_like_a_file() -> None:
    for argument, prompt in (("hi", "hi\n\ngrößer"), ("-", "größer"), (None, "größer")):
        for stream in (io.StringIO("größer"), io.TextIOWrapper(io.BytesIO("größer".encode()))):
            with standing_in(stream):
                assert prompt_of(argument) == prompt


def test_an_object_that_cannot_decode_its_text_is_refused() -> None:
    class Garbled(io.TextIOBase):
        def read(self, size: int | None = -1, /) -> str:
            return b"\xf6".decode()

    with standing_in(Garbled()), pytest.raises(typer.BadParameter, match="standard input is no text"):
        prompt_of("hi")


@posix
def test_ctrl_c_ends_the_waiting() -> None:
    code = "from any_agent.cli.standard_input import Patience, prompt_of; prompt_of('hi', patience=Patience(0.01, 60))"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        assert b"waiting" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.stderr.read()
        assert process.wait(20) != 0
