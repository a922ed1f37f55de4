"""Holds the keys that sign tokens for the upstream, rotates them, and publishes their public halves.

Rules of this file:
1. After any failure the current keys stay in use; the failure is logged once, and the step is repeated.
2. Signers, phases and published documents are replaced together, as one view: readers take no lock.
3. A private key whose file is gone, or was replaced, is kept until another one signs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

from authz.config.model import Config
from authz.config.upstream_token import UpstreamToken
from authz.core.minting import SigningKey
from authz.core.published_document import DISCOVERY_PATH, PublishedDocument
from authz.signing.local import LocalSigner
from authz.signing.port import Signer, SigningUnavailable
from authz.signing.rotation import (
    Instant,
    Phase,
    Ring,
    RingKey,
    RotationPlan,
    advance,
    due,
    find_local_signing_key,
    needs_key,
    observe,
    replaced_at,
    withdraw,
)
from authz.signing.sources import KeySources, RemoteKey
from authz.signing.state import FileStore, MemoryStore, SigningState, StateError, StateStore

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0  # between two checks of the files


@dataclass(frozen=True, slots=True)
class KeyringView:
    """The state of the keys at one moment: the *ring*, the *signers* in use and the *public* JWKs, by key id.

    *key* is the current signing key; None if no key can sign. *key_set* is the published JWK Set, empty while no key is
    known, *discovery* the discovery document, if there is one. *remote_keys* are those of the signers that may block.
    """

    ring: Ring = field(default_factory=Ring)
    signers: Mapping[str, Signer] = field(default_factory=dict)
    public: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    key: SigningKey | None = None
    key_set: str = ""
    discovery: str | None = None
    max_age: int = 0
    published: tuple[PublishedDocument, ...] = ()
    remote_keys: Mapping[str, RemoteKey] = field(default_factory=dict)


_EMPTY_VIEW: Final = KeyringView()


class Keyring:
    """The keys of one process. *publish* is called with each new view, before `view` returns it.

    *now* is in Unix time, *monotonic* in seconds on a clock that cannot be set. *make_store* returns the store for the
    state of generated keys; it may raise StateError.
    """

    def __init__(
        self,
        publish: Callable[[KeyringView], None],
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        sources: KeySources | None = None,
        make_store: Callable[[Config], StateStore] | None = None,
    ) -> None:
        self._make_store: Final = make_store or make_local_store
        self._publish: Final = publish
        self._now: Final = now
        self._monotonic: Final = monotonic
        self._sources: Final = sources or KeySources()
        self._config: Config | None = None
        self._store: StateStore | None = None  # made when it is first used
        self._store_key: object = None
        self._ring = Ring()  # with the times of this process
        self._read_at = monotonic()  # when the state was read last
        self._view = _EMPTY_VIEW
        self._failing = ""
        self._lock: Final = Lock()  # of steps; not taken by readers
        self._wake: Final = Event()
        self._stopped = False

    @property
    def view(self) -> KeyringView:
        """The current view."""
        return self._view

    @property
    def enabled(self) -> bool:
        """Whether tokens are minted at all."""
        return self._config is not None

    @property
    def listed(self) -> bool:
        """Whether the keys are those that the configuration lists, not generated ones."""
        return self._config is not None and not self._config.signing.generates

    @property
    def problem(self) -> str:
        """Why keys cannot be read or written; empty if they can."""
        return self._failing or (self._sources.problem if self.listed else "")

    def reconfigure(self, config: Config) -> None:
        """Use the keys that *config* names from now on. Never raises: keys that cannot be opened are tried again."""
        with self._lock:
            self._config = config if config.identity.minted is not None else None
            rotation = config.signing.rotation
            key = (rotation.storage, config.signing.generated_algorithm)
            if key != self._store_key:
                self._store, self._store_key = None, key
        self.step()

    def start(self) -> None:
        """Step regularly, on a thread of its own: files may be slow, and generating a key is."""
        Thread(target=self._run, name="signing", daemon=True).start()

    def stop(self) -> None:
        """End the thread, and close connections to keys."""
        self._stopped = True
        self._wake.set()
        self._sources.close()

    def step(self) -> None:
        """Do what is due. Never raises."""
        with self._lock:
            try:
                self._step()
            except (StateError, SigningUnavailable) as error:
                self._note_failure(str(error))
            except Exception as error:
                self._note_failure(type(error).__name__)
                log.exception("a step of the signing keys failed")
            else:
                self._note_failure("")

    def rotate(self) -> str | None:
        """Generate a new key, which will sign when readers know it; return its id, or None if keys are not generated.

        If a published key is already waiting to sign, its id is returned. Raises StateError.
        """
        with self._lock:
            config = self._config
            if config is None or not config.signing.generates or config.signing.rotation.follow:
                return None
            state = self._open_store(config).change(lambda state: self._advance(state, config, force=True))
            self._adopt(state, config)
            waiting = [key.kid for key in state.ring.keys if key.phase is Phase.PUBLISHED]
            return waiting[-1] if waiting else None

    def withdraw(self, kid: str) -> bool:
        """Remove a key at once, because it may be compromised; return whether there was one with this id.

        Raises StateError.
        """
        with self._lock:
            config = self._config
            if config is None or self._ring.find(kid) is None:
                return False
            if config.signing.generates:
                if config.signing.rotation.follow:
                    raise StateError("the state file is only read here: run `authz signing withdraw --state FILE`")
                store = self._open_store(config)
                self._adopt(store.change(lambda state: self._advance_without(state, config, kid)), config)
            else:
                self._ring = withdraw(self._ring, kid)
                self._step()
            return True

    def _advance_without(self, state: SigningState, config: Config, kid: str) -> SigningState:
        return self._advance(state.with_ring(withdraw(state.ring, kid)), config)

    def _open_store(self, config: Config) -> StateStore:
        """Raises StateError."""
        if self._store is None:
            self._store = self._make_store(config)
        return self._store

    def _step(self) -> None:
        config = self._config
        if config is None:
            if self._view != _EMPTY_VIEW:
                self._ring, self._store, self._store_key = Ring(), None, None
                self._publish(_EMPTY_VIEW)
                self._view = _EMPTY_VIEW
            return
        if config.signing.generates:
            try:
                self._adopt(self._read_generated(config), config)
            except StateError:
                view = self._view
                self._use_generated(
                    view.ring, view.signers, view.public, config
                )  # readers may know the key that signs by now
                raise
            return
        now, plan = self._instant(), plan_of(config)
        listed = self._sources.read(config.signing.keys)
        before = self._view
        # Rule 3: as the last one, because it is used only while the others may not sign yet.
        signing = self._ring.signing
        kept = {} if signing is None or signing.kid in listed else {signing.kid: before.signers.get(signing.kid)}
        signers = {**listed, **{kid: signer for kid, signer in kept.items() if signer is not None}}
        ring = advance(self._ring, plan, now, list(signers))
        if kept and (next_signing := ring.signing) is not None and next_signing.kid not in kept:
            ring = advance(ring, plan, now, list(listed))
        kids = {key.kid for key in ring.keys}
        public = {kid: before.public[kid] for kid in before.public if kid in kids}
        public |= {kid: signer.public_jwk() for kid, signer in signers.items() if kid in kids}
        in_use = {*listed, ring.signing.kid if ring.signing is not None else ""}
        in_use &= kids
        self._replace(ring, {kid: signers[kid] for kid in signers if kid in in_use}, public, config, ring.signing)

    def _read_generated(self, config: Config) -> SigningState:
        """Return the state of generated keys, advanced unless another process does that. Raises StateError."""
        store = self._open_store(config)
        if not config.signing.rotation.follow:
            return store.change(lambda state: self._advance(state, config))
        state = store.read()
        return replace(state, ring=observe(state.ring, self._ring, self._instant()))

    def _advance(self, state: SigningState, config: Config, *, force: bool = False) -> SigningState:
        """Return the state of generated keys after all steps that are due; with *force*, with a new key."""
        now, plan = self._instant(), plan_of(config)
        ring = observe(state.ring, self._ring, now)
        waiting = any(key.phase is Phase.PUBLISHED for key in ring.keys)
        if needs_key(ring, plan, now) or (force and not waiting):
            state = state.with_key(LocalSigner.generate(config.signing.generated_algorithm))
        newest_first = [kid for kid in reversed(list(state.signers)) if kid not in ring.withdrawn]
        return state.with_ring(advance(ring, plan, now, newest_first))

    def _adopt(self, state: SigningState, config: Config) -> None:
        """Use *state*, which was just read; its ring has the monotonic times of this process."""
        self._use_generated(state.ring, state.signers, state.public, config)
        self._read_at = self._monotonic()

    def _use_generated(
        self,
        ring: Ring,
        signers: Mapping[str, Signer],
        public: Mapping[str, Mapping[str, object]],
        config: Config,
    ) -> None:
        """Use generated keys; sign with the one that readers of this process know."""
        before = self._view
        last = before.key.kid if before.key is not None else None
        here = find_local_signing_key(ring, plan_of(config), last, self._instant(), self._read_at)
        if here is not None and here.kid not in signers and here.kid in before.signers:  # others have retired it
            signers = {**signers, here.kid: before.signers[here.kid]}
        self._replace(ring, signers, public, config, here)

    def _replace(
        self,
        ring: Ring,
        signers: Mapping[str, Signer],
        public: Mapping[str, Mapping[str, object]],
        config: Config,
        signing: RingKey | None,
    ) -> None:
        self._ring = ring
        before = self._view
        signer = signers.get(signing.kid) if signing is not None else None
        key = SigningKey(signer.kid, signer.algorithm) if signer is not None else None
        remote = {kid: self._sources.remote[kid] for kid in signers if kid in self._sources.remote}
        view = replace(make_view(config, ring, signers, public, key), remote_keys=remote)
        if view == before:
            return
        if key != before.key:
            log.info("tokens for the upstream are signed by key %s", key.kid if key is not None else "none")
        self._publish(view)
        self._view = view

    def _instant(self) -> Instant:
        return Instant(self._now(), self._monotonic())

    def _note_failure(self, text: str) -> None:
        before, self._failing = self._failing, text
        if text and text != before:
            log.error("signing keys: %s; the keys in use stay", text)
        elif before and not text:
            log.info("signing keys: the last problem is solved")

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(self.pause())
            self._wake.clear()
            if not self._stopped:
                self.step()

    def pause(self) -> float:
        """Return the seconds until the next step."""
        config = self._config
        if config is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.05, due(self._ring, plan_of(config), self._instant())))

    @staticmethod
    def _unsigned(view: KeyringView) -> str:
        """Return which key that may sign did not, the last time that it was asked; empty if all did."""
        failing = [(key, key.signer.problem) for key in view.remote_keys.values()]
        return next((f"key {key.name} does not sign: {text}" for key, text in failing if text), "")

    def describe(self) -> dict[str, object]:
        """Return the keys with their phases and ages, for operators: no private members."""
        config, view, now = self._config, self._view, self._instant()
        due_at = replaced_at(view.ring, plan_of(config), now) if config is not None else None
        return {
            "signing": view.key.kid if view.key is not None else None,
            "replaced_at": due_at if due_at is not None and due_at != float("inf") else None,
            "problem": self.problem or self._unsigned(view) or None,
            "keys": [
                {
                    "kid": key.kid,
                    "algorithm": view.public.get(key.kid, {}).get("alg"),
                    "phase": key.phase.value,
                    "published": key.published,
                    "started": key.started,
                    "stopped": key.stopped,
                }
                for key in view.ring.keys
            ],
            "withdrawn": list(view.ring.withdrawn),
        }


def make_local_store(config: Config) -> StateStore:
    """Return the store for the state of generated keys: in this process, or in a file. Raises StateError."""
    rotation = config.signing.rotation
    if rotation.state_file is None:
        return MemoryStore()
    return FileStore(Path(rotation.state_file), follow=rotation.follow)


def plan_of(config: Config) -> RotationPlan:
    """Return the durations of phases. A retired key is kept for the life of a token, and for replicas that are late."""
    rotation, token = config.signing.rotation, config.identity.minted
    ahead = rotation.ahead.total_seconds()
    lifetime = token.lifetime.total_seconds() if token is not None else 0.0
    every = rotation.every.total_seconds() if config.signing.generates else None
    cached = config.signing.publish.max_age.total_seconds()
    return RotationPlan(ahead=ahead, keep=lifetime + ahead, every=every, cached=cached)


def make_view(
    config: Config,
    ring: Ring,
    signers: Mapping[str, Signer],
    public: Mapping[str, Mapping[str, object]],
    key: SigningKey | None,
) -> KeyringView:
    """Return the view of *ring*, with the documents that *config* has published."""
    publish, token = config.signing.publish, config.identity.minted
    max_age = int(publish.max_age.total_seconds())
    # The key that signs is the first: readers that use only the first key find that one.
    order = sorted(ring.keys, key=lambda ring_key: ring_key.phase is not Phase.SIGNING)
    jwks = [public[ring_key.kid] for ring_key in order if ring_key.kid in public]
    key_set = json.dumps({"keys": jwks}, separators=(",", ":"))
    discovery = _write_discovery(token, publish.url, public) if token is not None and publish.url else None
    documents = []
    if not public:  # readers must not cache that there is no key
        return KeyringView(ring, dict(signers), {}, key)
    if publish.url is not None:
        documents.append(PublishedDocument.served_at(publish.url, key_set, max_age=max_age))
    if publish.discovery and token is not None and discovery is not None:
        url = (token.issuer or "").removesuffix("/") + DISCOVERY_PATH
        documents.append(PublishedDocument.served_at(url, discovery, max_age=max_age))
    return KeyringView(ring, dict(signers), dict(public), key, key_set, discovery, max_age, tuple(documents))


def _write_discovery(token: UpstreamToken, url: str, public: Mapping[str, Mapping[str, object]]) -> str:
    """Return the discovery document: what verifiers read of it, and what OpenID Connect Discovery requires of it."""
    algorithms = list(dict.fromkeys(str(jwk["alg"]) for jwk in public.values()))
    members = {
        "issuer": token.issuer,
        "jwks_uri": url,
        "id_token_signing_alg_values_supported": algorithms,
        "subject_types_supported": ["public"],
        "response_types_supported": ["token"],
    }
    return json.dumps(members, separators=(",", ":"))
