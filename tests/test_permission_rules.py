"""Rules: how they are read, and what they mean for commands, paths and addresses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from any_agent.errors import ConfigurationError
from any_agent.permissions import Rule
from any_agent.permissions.rules import subjects
from any_agent.permissions.shell_words import take_apart


class Traits:
    def __init__(self, **declared: Any) -> None:
        self.__dict__.update(declared)


def permits(rule: str, cwd: str = "/work", tool: Any = None, **arguments: Any) -> bool:
    return Rule.parse(rule).permits(subjects(tool, arguments), cwd)


def catches(rule: str, cwd: str = "/work", tool: Any = None, **arguments: Any) -> bool:
    return Rule.parse(rule).catches(subjects(tool, arguments), cwd)


# ------------------------------------------------------------------ reading them


@pytest.mark.parametrize(
    ("text", "tool", "pattern"),
    [
        ("shell", "shell", None), (" shell ", "shell", None), ("shell(*)", "shell", None), ("shell(:*)", "shell", None),
        ("shell(git status:*)", "shell", "git status:*"), ("shell(echo (a))", "shell", "echo (a)"),
        ("mcp__a__*", "mcp__a__*", None), ("write_file(./src/**)", "write_file", "./src/**"), ("*", "*", None),
    ],
)  # fmt: skip
def test_parsing(text: str, tool: str, pattern: str | None) -> None:
    rule = Rule.parse(text)
    assert (rule.tool, rule.pattern, rule.text) == (tool, pattern, text.strip())
    assert Rule.parse(rule) is rule


@pytest.mark.parametrize(
    "text", ["", "shell(", "shell()", "shell( )", "(x)", "shell)x(", "a b", "shell(x) y", None, 3, "write(src/*/../x)"]
)
def test_what_is_no_rule(text: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Rule.parse(text)
    assert caught.value.field == "rule" and caught.value.allowed


@given(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.text(min_size=1, max_size=20))
def test_every_rule_is_read_back_or_refused(tool: str, pattern: str) -> None:
    try:
        rule = Rule.parse(f"{tool}({pattern})")
    except ConfigurationError:
        return
    assert rule.tool == tool and rule.names(tool)
    assert rule.pattern == pattern.strip() or rule.pattern is None


def test_names() -> None:
    assert Rule.parse("mcp__files").names("mcp__files__read") and not Rule.parse("mcp__files").names("mcp__files2__x")
    assert Rule.parse("mcp__*").names("mcp__a__b") and Rule.parse("read_*").names("read_file")
    assert not Rule.parse("shell").names("shells") and not Rule.parse("shell").names("Shell")


# ------------------------------------------------------------------ commands

GIT = "shell(git status:*)"


@pytest.mark.parametrize(
    "command",
    ["git status", "git status -s", " git  status\n", "git 'status' -s", 'git "status" "a b"', "git status a\\ b"],
)
def test_a_prefix_allows_one_plain_command(command: str) -> None:
    assert permits(GIT, command=command)


@pytest.mark.parametrize(
    "command",
    [
        "", "git", "git stash", "git statuses", "xgit status", "/usr/bin/git status", "git -C / status",
        "git status; rm -rf /", "git status && x", "git status || x", "git status & x", "git status | sh",
        "git status\nrm -rf /", "git status\rrm", "git status > /etc/passwd", "git status < x", "git status 2>&1",
        "git status $(rm x)", "git status `rm x`", 'git status "$(rm x)"', 'git status "`rm x`"', "git status $HOME",
        "git status <(rm x)", "git status ${x:-$(rm x)}", "PATH=/evil git status", "A=1 git status", "! git status",
        "(git status)", "{ git status; }", "git status #", "git status 'x", 'git status "x', "git status \\",
        "git status \\\n rm", "git {status,x}", "git $'status'", "g\\\nit status", "git status\0", "git status\x0b;",
        "git status\u2028rm", "if git status", "sudo git status", "git\u00a0status", "git status <<EOF", "*git status", "git status [;rm;]",
        "git status [$(rm)]", "git status [`rm`]", "git status {a,$(rm)}", "git status [\nrm\n]",
    ],
)  # fmt: skip
def test_a_prefix_allows_nothing_else(command: str) -> None:
    assert not permits(GIT, command=command)


def test_whole_commands_and_wildcards() -> None:
    assert permits("shell(make test)", command="make test") and not permits("shell(make test)", command="make test x")
    assert permits("shell(a && b)", command="a && b") and not permits("shell(a && b)", command="a && b && c")
    assert permits("shell(npm run *)", command="npm run build")
    assert not permits("shell(npm run *)", command="npm run build; rm x")
    assert not permits("shell(npm run *)", command="npm run $(rm x)")
    assert permits("shell", command="anything; at all") and permits("shell(*)", command="anything; at all")
    assert permits(GIT, command=["git", "status"]) is False  # a list may be one command or several


@pytest.mark.parametrize(
    "command",
    [
        "rm", "rm -rf /", "git status; rm x", "a && rm x", "a || rm x", "a | rm x", "a & rm x", "a\nrm x", "$(rm x)",
        "`rm x`", 'echo "$(rm x)"', 'echo "`rm x`"', "diff <(rm x) y", "(rm x)", "{ rm x; }", "f() { rm x; }", "if rm x; then",
        "for f in *; do rm $f; done", "while true; do rm x; done", "A=1 B=2 rm x", "> out rm x", "2>&1 rm x", "2> e rm x",
        "sudo rm x", "sudo -u root rm x", "env A=1 rm x", "nohup rm x", "timeout 5 rm x", "xargs rm", "find . -exec rm {} +",
        "/bin/rm x", "\\rm x", "r''m x", "'rm' x", '"r"m x', "$'\\x72m' x", "bash -c 'rm x'", 'sh -c "cd /; rm x"',
        "bash -c \"bash -c 'rm x'\"", "eval 'rm x'", "eval rm x", "rm$IFS-rf$IFS/", "rm${IFS}x", "{rm,-rf,/}", "r? x",
        "/bin/r* x", "[r]m x", "$X x", "${X} x", "r${empty}m x", "r$@m x", "$(echo rm) x", "a=$(rm x)", "${x:-$(rm x)}",
        "{r,$(rm x)}", "ls [;rm;]", "# \\\nrm x", "# '\nrm x", "cat <<EOF\nrm x\nEOF", "RM x", "! rm x", "time rm x", "busybox rm x", "ssh host rm x", "rm.exe x",
        "case x in x) rm y;; esac", "git commit -m x && \\\n rm x", "coproc rm x", "a;rm x", "a|&rm x", "command -- rm x",
        "C:\\tools\\rm x", "x" * 30_000, "sudo " * 100 + "true", "$(" * 10 + "rm x", "env -S 'rm x'",
    ],
)  # fmt: skip
def test_a_deny_rule_finds_the_command_wherever_it_hides(command: str) -> None:
    assert catches("shell(rm:*)", command=command)


@pytest.mark.parametrize(
    "command",
    [
        "echo rm", "git rm x", "git commit -m 'rm x'", "ls rm", "[ -f rm ] && ls", "[[ -f rm ]]", "rmdir x", "# nothing",
        "cat rm.txt", "grep 'rm x' file", "echo $HOME", "ls *.py", "echo hi > rm", "python -c 'print(1)'", "", "farm x",
    ],
)  # fmt: skip
def test_a_deny_rule_leaves_other_commands_alone(command: str) -> None:
    assert not catches("shell(rm:*)", command=command)


def test_deny_rules_with_more_words_and_wildcards() -> None:
    assert catches("shell(git push:*)", command="cd x && git push -f") and not catches(
        "shell(git push:*)", command="git pull"
    )
    assert catches("shell(git push:*)", command="git $X")
    assert catches("shell(git push)", command="git push") and not catches("shell(git push)", command="git push -f")
    assert catches("shell(rm *)", command="ls; /bin/rm x") and catches("shell(*--force*)", command="git push --force")
    assert catches("shell(rm:*)", command=["rm", "x"]) and catches("shell(rm:*)", command=["ls", "rm x"])
    assert catches("shell", command="anything") and catches("shell", other=1)


FRAGMENTS = [
    "git status", "git", "status", "rm", "x", " ", "  ", ";", "&", "&&", "|", "||", "\n", "\t", "$", "$(", "(", ")", "`", "'", '"',
    "\\", "<", ">", "{", "}", ",", "#", "!", "=", "A=1", "*", "~", "-", "$'", "\r", "\\\n", "${", "[", "]", "2>&1", "\u00a0", "\x0b",
]  # fmt: skip
COMMANDS = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join) | st.lists(
    st.sampled_from(FRAGMENTS), max_size=6
).map(lambda parts: "git status " + "".join(parts))


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where every command notes that it ran."""
    folder = tmp_path_factory.mktemp("stubs")
    for name in ("git", "rm", "x", "status", "A=1", "gitx"):
        path = folder / name
        path.write_text('#!/bin/sh\necho "${0##*/} $1" >> "$NOTES"\n')
        path.chmod(0o755)
    return folder


@settings(max_examples=150, deadline=None)
@given(command=COMMANDS)
@example(command="git status \\\n\n rm")
@example(command="git status '\n' rm")
@example(command='git status "\\`" x')
def test_what_a_prefix_allows_a_real_shell_runs_as_one_command(stubs: Path, command: str) -> None:
    if not permits(GIT, command=command):
        return
    (stubs / "notes").unlink(missing_ok=True)
    environment = {"PATH": str(stubs), "NOTES": str(stubs / "notes")}
    before = sorted(os.listdir(stubs))
    done = subprocess.run(["/bin/sh", "-c", command], cwd=stubs, env=environment, capture_output=True, timeout=20)
    assert (stubs / "notes").read_text() == "git status\n", (command, done)
    assert sorted(set(os.listdir(stubs)) - {"notes"}) == before


@settings(max_examples=100, deadline=None)
@given(command=COMMANDS)
@example(command="# \\\nrm x")
@example(command="git $'\\n' && rm")
def test_what_a_real_shell_runs_a_deny_rule_has_found(stubs: Path, tmp_path_factory: Any, command: str) -> None:
    if "rm" not in command or catches("shell(rm:*)", command=command):
        return
    folder = tmp_path_factory.mktemp("run")
    environment = {"PATH": str(stubs), "NOTES": str(folder / ".notes")}
    subprocess.run(["/bin/sh", "-c", command], cwd=folder, env=environment, capture_output=True, timeout=20)
    ran = (folder / ".notes").read_text() if (folder / ".notes").exists() else ""
    assert "rm" not in [line.split(" ")[0] for line in ran.splitlines()]


@settings(max_examples=400)
@given(COMMANDS)
def test_what_a_prefix_allows_is_exactly_one_simple_command(command: str) -> None:
    if permits(GIT, command=command):
        found = take_apart(command)
        assert found.is_simple and found.commands[0][:2] == ("git", "status")
        assert not catches("shell(rm:*)", command=command)


@settings(max_examples=400)
@given(st.text(max_size=60) | COMMANDS)
def test_any_text_is_taken_apart(text: str) -> None:
    found = take_apart(text)
    assert all(found.commands) and (found.commands or not found.is_simple)
    assert not take_apart(text + ";x").is_simple or "\\" in text or "'" in text or '"' in text


@settings(max_examples=200)
@given(COMMANDS)
def test_a_command_behind_a_whole_one_is_found(text: str) -> None:
    """Whatever stands before it, if the text is whole, what follows a line end is a command."""
    if take_apart(text).is_simple:
        assert catches("shell(rm:*)", command=f"{text}\nrm x") and catches("shell(rm:*)", command=f"{text}; rm x")


def test_long_hostile_texts_are_taken_apart_quickly() -> None:
    from time import perf_counter

    started = perf_counter()
    for text in ("{" * 20_000, "{," * 10_000, "$(" * 10_000, "`" * 20_000, "'\"" * 10_000, "sudo " * 4_000, "${" * 10_000,
                 "bash -c '" * 2_000, "a;" * 10_000, "sh -c 'x y' " * 60):  # fmt: skip
        take_apart(text)
    assert perf_counter() - started < 5


# ------------------------------------------------------------------ paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """work/src, work/secret, and links out of and into them."""
    root = tmp_path.resolve() / "work"
    for name in ("src/deep", "secret"):
        (root / name).mkdir(parents=True)
    (root / "src/out").symlink_to("/etc")
    (root / "src/key").symlink_to(root / "secret/key")
    (root / "way").symlink_to(root / "secret")
    return root


def test_allowed_paths_are_where_they_really_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    cwd, rule = str(folder), "write_file(./src/**)"
    for path in ("src/a", "./src/deep/a.py", f"{folder}/src/a", "src/../src/a", "secret/../src/a", "src/.hidden"):
        assert permits(rule, cwd, path=path), path
        assert permits("write_file(~/src/**)", cwd, path=path) and permits(
            f"write_file({folder}/src/**)", cwd, path=path
        )
    for path in (
        "a", "src", "srcs/a", "src/../a", "src/../../a", "../work/src/../a", "/etc/passwd", "src/out/passwd", "src/key",
        "SRC/a", "~/src/a", "~root/a", "$HOME/src/a", " src/a", "src/a\0", "file:///etc/passwd", "src/a/../../b", "",
    ):  # fmt: skip
        assert not permits(rule, cwd, path=path), path
    assert permits("write_file(src/*.py)", cwd, path="src/a.py") and permits(
        "write_file(src/**/*.py)", cwd, path="src/a.py"
    )
    assert not permits("write_file(src/*.py)", cwd, path="src/deep/a.py")
    assert permits("write_file(src/**/*.py)", cwd, path="src/deep/a.py")
    assert permits("write_file(notes.md)", cwd, path="notes.md") and not permits(
        "write_file(notes.md)", cwd, path="src/notes.md"
    )
    assert permits("write_file(src/[ab]?.py)", cwd, path="src/a1.py") and not permits(
        "write_file(src/[!ab].py)", cwd, path="src/a.py"
    )
    assert permits(rule, cwd, path=["src/a", "src/b"]) and not permits(rule, cwd, path=["src/a", "b"])
    assert not permits(rule, cwd, path="src/a", new_path="b") and permits(
        rule, cwd, path="src/a", content="/etc/passwd"
    )
    assert permits("write_file(/**)", cwd, path="/etc/passwd")


def test_denied_paths_are_found_in_every_spelling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    cwd, rule = str(folder), "read_file(./secret/**)"
    for path in (
        "secret/key", "./secret/key", "src/../secret/key", f"{folder}/secret/key", f"{folder}//secret/./key", "way/key",
        "src/key", "SECRET/Key", "~/secret/key", "$HOME/secret/key", " secret/key ", f"file://{folder}/secret/key",
        "secret", "secret/", "secret%2Fkey", "secret/deep/er",
    ):  # fmt: skip
        assert catches(rule, cwd, path=path), path
    for path in ("src/a", "secrets/key", "src/secret", "a/secret/key"):
        assert not catches(rule, cwd, path=path), path
    for path in (".env", "src/.env", f"{folder}/a/b/.env", ".ENV"):
        assert catches("read_file(.env)", cwd, path=path), path
    assert catches("read_file(*.pem)", cwd, path="a/b.pem") and not catches("read_file(*.pem)", cwd, path="a/b.pem.txt")
    assert catches("read_file(/etc/**)", cwd, path="src/out/passwd") and catches(
        "read_file(/etc/**)", cwd, file_path="/etc/x"
    )
    assert catches(rule, cwd, path=["src/a", "secret/key"]) and catches(
        rule, cwd, path="src/a", target_path="secret/key"
    )
    assert catches(rule, cwd, source={"deep": ["secret/key"]})


def test_a_working_folder_with_odd_letters(tmp_path: Path) -> None:
    odd = tmp_path.resolve() / "a[b]*(c) ü"
    odd.mkdir()
    assert permits("write(./src/**)", str(odd), path="src/a") and not permits(
        "write(./src/**)", str(odd), path="../src/a"
    )
    assert catches("write(./src/**)", str(odd), path="src/a")


NAMES = st.sampled_from(["src", "..", ".", "a", "out", "key", "", "deep", "secret", "way", "SRC", "~"])


@settings(max_examples=300)
@given(st.lists(NAMES, max_size=7).map("/".join))
def test_an_allowed_path_lies_inside(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    root = tmp_path_factory.getbasetemp().resolve() / "inside"
    if not root.exists():
        (root / "src/deep").mkdir(parents=True)
        (root / "secret").mkdir()
        (root / "src/out").symlink_to("/etc")
        (root / "src/key").symlink_to(root / "secret")
        (root / "way").symlink_to(root / "src")
    if permits("write(./src/**)", str(root), path=path):
        assert os.path.realpath(root / path).startswith(f"{root}/src/")
    elif os.path.realpath(root / path).startswith(f"{root}/src/"):
        assert "~" in path
    if os.path.realpath(root / path).startswith(f"{root}/src/"):
        assert catches("write(./src/**)", str(root), path=path)


# ------------------------------------------------------------------ addresses

DOMAIN = "web_fetch(domain:example.com)"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://example.com/",
        "https://EXAMPLE.com/a?b#c",
        "https://example.com:8443/x",
        "https://example.com./",
    ],
)
def test_a_domain_allows_its_host(url: str) -> None:
    assert permits(DOMAIN, url=url) and catches(DOMAIN, url=url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com.evil.org/", "https://evil.org/example.com", "https://example.com@evil.org/", "https://sub.example.com/",
        "https://evil.org\\@example.com/", "https://example.com\\.evil.org/", "ftp://example.com/", "example.com", "//example.com",
        "https://evil.org#example.com", "https://evil.org?x=https://example.com", "https://exam\tple.com/", " https://example.com/",
        "https://user:pw@example.com/", "https://example.com%2eevil.org/", "https://еxample.com/", "https:example.com",
        "javascript://example.com/%0aalert(1)", "https://[::1]/", "https:///example.com", "", "https://example。com/",
    ],
)  # fmt: skip
def test_a_domain_allows_no_other(url: str) -> None:
    assert not permits(DOMAIN, url=url)


@pytest.mark.parametrize(
    "url",
    [
        "https://sub.example.com/", "example.com", "//example.com/x", "https://user@example.com/", "HTTPS://Example.Com", "ftp://example.com",
        "https://evil.org\\@example.com/", "https://exam\tple.com/", " https://example.com ", "https:example.com", "https:/example.com",
        "https://example.com.", "https://example%2ecom/", "https://example。com/", "https://ｅxample.com/", "https:\\\\example.com\\x",
    ],
)  # fmt: skip
def test_a_denied_domain_is_found_in_every_spelling(url: str) -> None:
    assert catches(DOMAIN, url=url)


def test_other_addresses() -> None:
    assert permits("web(domain:*.example.com)", url="https://a.example.com/") and not permits(
        "web(domain:*.example.com)", url="https://example.com/"
    )
    docs = "web(https://example.com/docs/*)"
    assert permits(docs, url="https://example.com/docs/a?b") and not permits(docs, url="http://example.com/docs/a")
    for url in (
        "https://example.com/docs/../admin",
        "https://example.com/docs/%2e%2e/admin",
        "https://example.com/doc",
        "https://example.com.x/docs/a",
    ):
        assert not permits(docs, url=url)
    assert permits("web(example.com)", url="https://example.com/") and catches(
        "web(example.com)", url="https://example.com/a"
    )
    assert catches(docs, url="https://example.com/docs/a") and not catches(docs, url="https://example.com/a")
    assert not catches(DOMAIN, url="https://example.org/") and not catches(DOMAIN, url="https://notexample.com")


# ------------------------------------------------------------------ which argument


def test_which_argument_a_rule_looks_at() -> None:
    assert permits("t(a*)", query="abc") and not permits("t(a*)", query="bcd") and catches("t(A*)", query="abc")
    assert permits("t(a*)", "/w", Traits(permission_argument="topic"), topic="abc", path="/etc")
    assert permits(GIT, "/w", Traits(permission_argument="shell_command"), shell_command="git status")
    assert not permits(GIT, "/w", Traits(permission_argument="shell_command"), command="git status")
    move = Traits(permission_argument=("source_path", "target_path"))
    assert permits("move(./a/**)", "/w", move, source_path="a/x", target_path="a/y")
    assert not permits("move(./a/**)", "/w", move, source_path="a/x", target_path="b")
    assert not permits("t(a*)", other="abc") and catches("t(a*)", other="abc")  # nothing tells what it is
    assert not permits("t(a*)") and not catches("t(a*)") and catches("t") and permits("t")
    assert (
        not permits("t(1)", path=1) and not permits(GIT, command={"x": "git status"}) and not permits(GIT, command=[])
    )


def test_what_an_unknown_argument_hides_is_found() -> None:
    assert catches("run(rm:*)", path=".", shellScript="cd /; rm -rf x") and catches("run(rm:*)", code="rm -rf x")
    assert not catches(
        "run(rm:*)", command="ls", description="rm is not used; rm never"
    )  # it was held against the command
    assert catches("get(domain:example.com)", options={"where": "https://example.com"})
    text = "a" * 60_000
    assert not catches("write(./secret/**)", path="a", content=text) and not catches(
        "write(*.env)", path="a", content="x.env"
    )


@pytest.mark.parametrize(
    "command",
    ["function f { rm x; }; f", "sh <<< 'rm x'", "bash -s <<<'rm -rf x'", "printf 'rm x' | sh", "curl x.sh | bash -e", "cat x | sudo sh"],
)  # fmt: skip
def test_commands_that_a_shell_reads_are_feared(command: str) -> None:
    assert catches("run(rm:*)", command=command)


def test_a_shell_that_runs_something_plain_is_not() -> None:
    for command in ("bash build.sh", "sh -c 'ls'", "cat <<< 'rm x'", "ls <<< x"):
        assert not catches("run(rm:*)", command=command)
    assert not permits("run(cat:*)", command="cat <<< x")
