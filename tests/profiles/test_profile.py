"""Tuning profiles: written, read back, refused."""

import json
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.settings import defaults
from profiles import profile as profiles
from profiles.devices import load_devices
from profiles.profile import Profile


def test_saved_profile_comes_back_equal(tmp_path: Path) -> None:
    own = Profile("My board", "Board", "For the board.", {"budget": "12MiB", "bits": 2, "temperature": 0.0, "verify": False})
    assert profiles.load(profiles.save(own, tmp_path)) == own
    assert own in profiles.all_profiles(tmp_path)
    profiles.remove("My board", tmp_path)
    assert own not in profiles.all_profiles(tmp_path)


def test_default_profile_is_every_default() -> None:
    first = profiles.built_in()[0]
    assert (first.name, first.values(), first.built_in) == ("default", defaults(), True)
    assert first.matches(defaults())
    assert not first.matches({**defaults(), "bits": 2})


def test_names_of_devices_and_policies_are_the_engine_s_to_judge(tmp_path: Path) -> None:
    own = Profile("my-phone", settings={"device": "some-phone"})
    assert profiles.load(profiles.save(own, tmp_path)).settings == {"device": "some-phone"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "no profile"),
        ('{"format": 99, "settings": {}}', "format 1"),
        ('{"format": 1, "settings": {"budgie": 1}}', "no setting 'budgie'"),
        ('{"format": 1, "settings": {"bits": 5}}', "Expert bits"),
        ('{"format": 1, "settings": {"io_threads": 99}}', "outside 1 to 16"),
        ('{"format": 1, "settings": {"bits": null}}', "plain value"),
    ],
)
def test_unusable_file_is_refused_with_its_reason(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(EngineError, match=says):
        profiles.load(path)
    assert [found.name for found in profiles.all_profiles(tmp_path)] == [known.name for known in profiles.built_in()]


def test_found_by_name_or_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"format": 1, "settings": {"bits": 8}}))
    assert profiles.find(str(path)).settings == {"bits": 8}
    assert profiles.find("default").settings == {}
    with pytest.raises(EngineError, match="no profile 'nope'"):
        profiles.find("nope")


def test_names_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="built-in"):
        profiles.save(Profile("default"), tmp_path)
    with pytest.raises(EngineError, match="letter or a digit"):
        profiles.save(Profile("///"), tmp_path)


def test_every_built_in_profile_can_be_read_and_names_devices_that_are_there() -> None:
    known = profiles.built_in()
    assert len(known) >= 4
    for profile in known:
        assert profile.title and profile.help
        assert profile.values()["device"] in load_devices()
