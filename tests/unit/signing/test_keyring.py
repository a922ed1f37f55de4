"""Proves authz.signing.keyring, state and offline: keys rotate by time, by file and by hand, and survive restarts."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, Final

import pytest

from authz.config.model import Config
from authz.core.keys import KeySet
from authz.core.published_document import PublishedDocument
from authz.signing.keyring import POLL_SECONDS, Keyring, KeyringView
from authz.signing.local import ALGORITHMS, LocalSigner
from authz.signing.offline import rotate_state, withdraw_key
from authz.signing.state import FileStore, SigningState, StateError, parse_state, read_state, write_state
from tests.unit.config.sample import configure

TOKEN: Final = "identity: {token: {issuer: https://gateway.test, audience: [orders], lifetime: 2m}}\n"
DAY: Final = 86_400.0
AHEAD: Final = 900.0
PRIVATE: Final = {"d", "p", "q", "dp", "dq", "qi", "priv", "k"}


class Clock:
    """Two clocks that move together, unless one is set."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.monotonic = 100.0

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.monotonic += seconds


class Ringed:
    """A process with a keyring, and the views that it published."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.views: list[KeyringView] = []
        self.clock = clock
        self.ring = Keyring(self.views.append, now=lambda: clock.wall, monotonic=lambda: clock.monotonic)
        self.ring.reconfigure(config)

    @property
    def view(self) -> KeyringView:
        return self.ring.view

    @property
    def signing(self) -> str | None:
        """The id of the key that signs."""
        return self.view.key.kid if self.view.key is not None else None

    @property
    def phases(self) -> list[str]:
        """The phases of all keys, the oldest first."""
        return [key.phase.value for key in self.view.ring.keys]

    def after(self, seconds: float) -> Ringed:
        """Let time pass, and step."""
        self.clock.pass_(seconds)
        self.ring.step()
        return self


def signing(text: str) -> Config:
    """Configure keys."""
    return configure(more=f"{TOKEN}signing: {{{text}}}\n")


def test_nothing_is_signed_without_a_token_for_the_upstream() -> None:
    """Without `identity.token` there are no keys; when it goes, they go too."""
    ringed = Ringed(configure(), Clock())
    assert (ringed.view, ringed.ring.enabled, ringed.views) == (KeyringView(), False, [])
    assert ringed.ring.rotate() is None
    assert not ringed.ring.withdraw("x")
    ringed.ring.reconfigure(signing(""))
    first = ringed.signing
    assert first is not None
    ringed.ring.reconfigure(configure())
    assert ringed.views[-1] == KeyringView()
    ringed.ring.reconfigure(signing(""))
    assert ringed.signing not in {None, first}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_published_is_public(algorithm: str) -> None:
    """Over all kinds of keys, phases and texts: no private member leaves, and readers accept every key."""
    ringed = Ringed(signing(f"keys: {{main: {{kind: memory, algorithm: {algorithm}}}}}"), Clock())
    ringed.ring.rotate()
    ringed.after(AHEAD)
    assert ringed.phases == ["retired", "signing"]
    view = ringed.view
    published = json.loads(view.key_set)
    assert len(KeySet.from_json(view.key_set).keys) == len(published["keys"]) == 2
    assert not [key for key in published["keys"] if PRIVATE & key.keys()]
    assert published["keys"][0]["kid"] == ringed.signing
    (signer,) = view.signers.values()
    assert isinstance(signer, LocalSigner)
    shown = repr(view) + json.dumps(ringed.ring.describe()) + view.key_set
    assert not [name for name in PRIVATE if str(signer.export_private().get(name, "absent!")) in shown]


def test_a_rotation_by_time() -> None:
    """A month later the next key was published for its time, and signs; the old one ends."""
    ringed = Ringed(signing(""), Clock())
    first = ringed.signing
    ringed.after(30 * DAY - AHEAD - 1)
    assert ringed.phases == ["signing"]
    ringed.after(1)
    assert (ringed.phases, ringed.signing) == (["signing", "published"], first)
    assert ringed.ring.pause() == POLL_SECONDS
    ringed.after(AHEAD)
    assert ringed.phases == ["retired", "signing"]
    assert ringed.signing != first
    ringed.after(AHEAD + 120)
    assert ringed.phases == ["signing"]
    described = ringed.ring.describe()
    assert described["replaced_at"] == pytest.approx(ringed.clock.wall + 30 * DAY - AHEAD - 120)
    assert (described["problem"], described["signing"]) == (None, ringed.signing)


def test_a_rotation_by_hand() -> None:
    """Asked for twice, one key is published; it signs when readers know it."""
    ringed = Ringed(signing(""), Clock())
    first = ringed.signing
    waiting = ringed.ring.rotate()
    assert waiting is not None
    assert ringed.ring.rotate() == waiting
    assert ringed.signing == first
    assert ringed.after(AHEAD).signing == waiting


def test_an_emergency() -> None:
    """A withdrawn key is gone from the set at once, and another one signs; it does not come back."""
    ringed = Ringed(signing(""), Clock())
    first = ringed.signing
    assert first is not None
    assert not ringed.ring.withdraw("unknown")
    assert ringed.ring.withdraw(first)
    assert ringed.signing not in {None, first}
    assert first not in ringed.view.key_set
    assert ringed.ring.describe()["withdrawn"] == [first]


def test_replicas_share_a_file(tmp_path: Path) -> None:
    """Two processes have the same keys and phases; the file is for its owner alone, and survives a restart."""
    state = tmp_path / "state.json"
    config, clock = signing(f"rotation: {{state_file: '{state}'}}"), Clock()
    one, other = Ringed(config, clock), Ringed(config, clock)
    assert one.signing == other.signing is not None
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    waiting = one.ring.rotate()
    assert other.after(1).phases == ["signing", "published"]
    assert one.after(AHEAD).signing == waiting
    assert other.after(0).signing == waiting
    assert [key.kid for key in read_state(state).ring.keys if key.stopped is not None] != [waiting]
    assert Ringed(config, clock).signing == waiting
    assert one.ring.withdraw(str(waiting))
    assert other.after(1).signing == one.signing != waiting
    retired = [each["jwk"] for each in json.loads(state.read_text())["keys"] if each["stopped"] is not None]
    assert not [jwk for jwk in retired if PRIVATE & jwk.keys()]


def test_a_file_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    """The keys in use stay, the trouble is said without a part of the file, and it ends when the file is good again."""
    state = tmp_path / "state.json"
    ringed = Ringed(signing(f"rotation: {{state_file: '{state}'}}"), Clock())
    good, first = state.read_text(), ringed.signing
    for broken in (
        "",
        "{}",
        '{"version": 2}',
        good.replace('"d"', '"e"'),
        good.replace("published", "x"),
        "x" * 2_000_000,
    ):
        state.write_text(broken)
        assert ringed.after(1).signing == first
        problem = str(ringed.ring.describe()["problem"])
        assert problem.startswith(str(state))
        assert first is not None
        assert first not in problem
    with pytest.raises(StateError):
        ringed.ring.rotate()
    state.write_text(good)
    assert ringed.after(1).signing == first
    assert ringed.ring.describe()["problem"] is None


def test_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    """Without a place for the first key there is none, and it is said why."""
    ringed = Ringed(signing(f"rotation: {{state_file: '{tmp_path}/absent/state.json'}}"), Clock())
    assert ringed.signing is None
    assert "No such file" in str(ringed.ring.describe()["problem"])


def test_a_follower_only_reads(tmp_path: Path) -> None:
    """What a job writes is used, and nothing is written: for a Secret."""
    state = tmp_path / "state.json"
    config, clock = signing(f"rotation: {{state_file: '{state}', follow: true}}"), Clock()
    ringed = Ringed(config, clock)
    assert ringed.signing is None
    state.write_bytes(write_state(rotate_state(SigningState(), algorithm="ES256", ahead=AHEAD, now=clock.wall)))
    first = ringed.after(1).signing
    assert first is not None
    before = state.read_bytes()
    assert ringed.after(90 * DAY).phases == ["signing"]
    assert ringed.ring.rotate() is None
    with pytest.raises(StateError):
        ringed.ring.withdraw(first)
    assert state.read_bytes() == before
    assert not state.with_name("state.json.lock").exists()


def test_a_rotation_of_a_file_by_a_job(tmp_path: Path) -> None:
    """The first run publishes, a run before its time does nothing, a later one has the key sign; the old one goes."""
    now = 1_800_000_000.0
    store = FileStore(tmp_path / "state.json")

    def run(at: float) -> list[str]:
        state = store.change(lambda known: rotate_state(known, algorithm="Ed25519", ahead=AHEAD, now=at))
        return [key.phase.value for key in state.ring.keys]

    assert run(now) == ["signing"]
    assert run(now + 10) == ["signing", "published"]
    assert run(now + 20) == ["signing", "published"]
    assert run(now + 10 + AHEAD) == ["retired", "signing"]
    assert run(now + 10 * DAY) == ["signing", "published"]
    first, second = (key.kid for key in store.read().ring.keys)

    def withdraw(kid: str) -> list[str]:
        state = store.change(
            lambda known: withdraw_key(known, kid, algorithm="Ed25519", ahead=AHEAD, now=now + 11 * DAY)
        )
        return [key.phase.value for key in state.ring.keys]

    assert withdraw(first) == ["signing"]
    assert withdraw(second) == ["signing"]
    with pytest.raises(KeyError):
        withdraw(first)


def write(path: Path, signer: LocalSigner) -> None:
    """Replace a key file as cert-manager does."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(signer.export_private()))
    new.replace(path)


def test_a_key_file_that_is_replaced(tmp_path: Path) -> None:
    """The new key is published, and the old one signs, from memory, until readers know the new one."""
    file, old, new = tmp_path / "tls.key", LocalSigner.generate("ES256"), LocalSigner.generate("RS256")
    write(file, old)
    ringed = Ringed(signing(f"keys: {{main: {{kind: file, file: '{file}'}}}}"), Clock())
    assert ringed.signing == old.kid
    write(file, new)
    assert ringed.after(1).signing == old.kid
    assert {key["kid"] for key in json.loads(ringed.view.key_set)["keys"]} == {old.kid, new.kid}
    assert ringed.after(AHEAD).signing == new.kid
    assert ringed.phases == ["retired", "signing"]
    assert list(ringed.view.signers) == [new.kid]
    assert ringed.after(AHEAD + 120).phases == ["signing"]
    assert ringed.ring.rotate() is None
    assert ringed.ring.describe()["replaced_at"] is None


def test_a_key_file_that_is_gone_or_broken(tmp_path: Path) -> None:
    """The key in use stays; one that never was there is left out, until it comes. Meanwhile operators see why."""
    file, other, key = tmp_path / "one.key", tmp_path / "two.key", LocalSigner.generate("ES256")
    write(file, key)
    text = f"keys: {{two: {{kind: file, file: '{other}'}}, one: {{kind: file, file: '{file}'}}}}"
    ringed = Ringed(signing(text), Clock())
    assert ringed.signing == key.kid
    assert ringed.ring.describe()["problem"] == f"key two: {other}: No such file or directory"
    late = LocalSigner.generate("Ed25519")
    write(other, late)
    assert ringed.after(1).phases == ["signing", "published"]
    assert ringed.ring.describe()["problem"] is None
    for broken in ("", "secret", "x" * 100_000):
        file.write_text(broken)
        assert ringed.after(1).signing == key.kid
        assert str(ringed.ring.describe()["problem"]).startswith(f"key one: {file}: ")
    file.unlink()
    assert ringed.after(1).signing == key.kid
    assert ringed.ring.describe()["problem"] == f"key one: {file}: No such file or directory"
    assert ringed.after(AHEAD).signing == late.kid
    assert ringed.ring.withdraw(late.kid)
    assert ringed.signing == key.kid
    ringed.ring.reconfigure(signing(f"keys: {{two: {{kind: file, file: '{other}'}}}}"))
    assert ringed.ring.describe()["problem"] is None
    ringed.ring.stop()


def test_of_listed_keys_the_first_signs_when_readers_know_it(tmp_path: Path) -> None:
    """After a start the last one signs, which other replicas published: a new one is listed in front."""
    files = [tmp_path / name for name in ("new", "old")]
    keys = [LocalSigner.generate("ES256") for _ in files]
    for file, key in zip(files, keys, strict=True):
        write(file, key)
    listed = ", ".join(f"{file.name}: {{kind: file, file: '{file}'}}" for file in files)
    ringed = Ringed(signing(f"keys: {{{listed}}}"), Clock())
    assert ringed.signing == keys[1].kid
    assert ringed.after(AHEAD).signing == keys[0].kid


def test_keys_that_are_listed_elsewhere_are_an_error_for_now(tmp_path: Path) -> None:
    """A key that cannot be opened leaves the others."""
    file, key = tmp_path / "one.key", LocalSigner.generate("ES256")
    write(file, key)
    hsm = "hsm: {kind: aws_kms, key: alias/none, endpoint: 'https://127.0.0.1:9'}"
    text = f"keys: {{{hsm}, one: {{kind: file, file: '{file}'}}}}"
    ringed = Ringed(signing(text), Clock())
    assert ringed.signing == key.kid


def test_documents() -> None:
    """The key set at the configured URL, and the discovery document that names it, with the issuer as it is written."""
    url = "https://api.test/.well-known/jwks.json"
    ringed = Ringed(signing(f"publish: {{url: '{url}', discovery: true, max_age: 4m}}"), Clock())
    keys, discovery = ringed.view.published
    assert keys == PublishedDocument.served_at(url, ringed.view.key_set, max_age=240)
    assert (discovery.host, discovery.segments) == ("gateway.test", (".well-known", "openid-configuration"))
    members: dict[str, Any] = json.loads(discovery.body)
    assert (members["issuer"], members["jwks_uri"]) == ("https://gateway.test", url)
    assert members["id_token_signing_alg_values_supported"] == ["ES256"]
    assert Ringed(signing(""), Clock()).view.published == ()


def test_a_step_never_raises() -> None:
    """A fault of ours is logged, and the thread lives on."""
    clock = Clock()

    def fail(_: KeyringView) -> None:
        raise RuntimeError("no room")

    ring = Keyring(fail, now=lambda: clock.wall, monotonic=lambda: clock.monotonic)
    ring.reconfigure(signing(""))
    assert ring.view.key is None
    assert ring.describe()["problem"] == "RuntimeError"
    ring.start()
    ring.stop()


def test_a_state_is_read_as_it_was_written() -> None:
    """All kinds of keys, and all phases."""
    state, now = SigningState(), 1_800_000_000.0
    for number, algorithm in enumerate(ALGORITHMS):
        state = rotate_state(state, algorithm=algorithm, ahead=AHEAD, now=now + number * AHEAD)
    read = parse_state(write_state(state))
    assert read.ring == state.ring
    assert read.public == state.public
    assert set(read.signers) == set(state.signers)
