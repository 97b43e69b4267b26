"""What an installation holds: the right name, bounded majors, a full lock and no stray start-up file."""

from __future__ import annotations

import re
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

DISTRIBUTION = "any-agent-harness"
ROOT = Path(__file__).resolve().parents[2]

# A .pth file runs at every start of Python: the compromised LiteLLM uploads of March 2026 came in by one.
EXPECTED_PTH = re.compile(
    r"_editable_impl_any_agent_harness\.pth"  # this project, installed with -e
    r"|distutils-precedence\.pth"  # setuptools, in the environments of Python 3.10 and 3.11
    r"|a1_coverage\.pth"  # coverage
    r"|_virtualenv\.pth"  # environments made by uv
)


def site_packages() -> set[Path]:
    return {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}


def requirements_of(distribution: str) -> list[Requirement]:
    return [Requirement(line) for line in metadata.requires(distribution) or []]


def unexpected_pth_files(folders: set[Path]) -> list[str]:
    return sorted(
        path.name for folder in folders for path in folder.glob("*.pth") if not EXPECTED_PTH.fullmatch(path.name)
    )


def has_upper_bound(requirement: Requirement) -> bool:
    return any(specifier.operator in {"<", "<=", "==", "~="} for specifier in requirement.specifier)


def test_no_unexpected_pth_file_is_installed() -> None:
    assert unexpected_pth_files(site_packages()) == []


@pytest.mark.parametrize("name", ["litellm_init.pth", "my_a1_coverage.pth", "_virtualenv.pth.pth"])
def test_a_stray_pth_file_is_noticed(tmp_path: Path, name: str) -> None:
    (tmp_path / "a1_coverage.pth").write_text("")
    (tmp_path / name).write_text("import os")
    assert unexpected_pth_files({tmp_path}) == [name]


def test_own_pth_file_only_names_folders() -> None:
    for folder in site_packages():
        for path in folder.glob("*any_agent*.pth"):
            lines = path.read_text(encoding="utf-8").split("\n")
            assert all(Path(line).is_dir() for line in lines if line), path.name


def test_installed_litellm_is_a_sound_one() -> None:
    version = metadata.version("litellm")
    assert version not in {"1.82.7", "1.82.8"}
    assert not version.startswith(("1.105.", "1.106."))
    (requirement,) = [item for item in requirements_of(DISTRIBUTION) if item.name == "litellm"]
    assert Version(version) in requirement.specifier
    for unsound in ("1.82.7", "1.82.8", "1.105.3", "1.106.2", "2.0.0"):
        assert Version(unsound) not in requirement.specifier


def test_every_dependency_bounds_its_major() -> None:
    requirements = [item for item in requirements_of(DISTRIBUTION) if canonicalize_name(item.name) != DISTRIBUTION]
    assert len(requirements) > 20
    assert [str(item) for item in requirements if not has_upper_bound(item)] == []


def test_distribution_name_version_and_script() -> None:
    import any_agent

    distribution = metadata.distribution(DISTRIBUTION)
    assert distribution.metadata["Name"] == DISTRIBUTION
    assert distribution.version == any_agent.__version__
    scripts = {entry.name: entry.value for entry in distribution.entry_points if entry.group == "console_scripts"}
    assert scripts == {"any-agent": "any_agent.cli:main"}


def test_package_says_that_it_is_typed() -> None:
    import any_agent

    assert Path(any_agent.__file__).with_name("py.typed").is_file()


def test_constraints_pin_every_dependency_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and next(iter(pin.specifier)).operator == "==" for pin in pins)
    assert not [line for line in lines if "://" in line or " @ " in line or line.startswith(("-", "/"))]
    pinned: dict[str, list[Requirement]] = {}
    for pin in pins:
        pinned.setdefault(canonicalize_name(pin.name), []).append(pin)
    for wanted in requirements_of(DISTRIBUTION):
        name = canonicalize_name(wanted.name)
        if name == DISTRIBUTION:
            continue
        assert name in pinned, f"{name} is missing: make lock"
        for pin in pinned[name]:
            assert wanted.specifier.contains(next(iter(pin.specifier)).version), f"{pin} is outside {wanted}: make lock"
