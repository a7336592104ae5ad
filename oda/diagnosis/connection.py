"""The way to the platform, step by step: name, TCP, TLS, upgrade, ping, acknowledgement.

Each step reports what it found. The first that fails ends the check, with advice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, TimeoutError, inlineCallbacks

from oda.connector.address import build_address
from oda.connector.status import file_certificate_ends_ms
from oda.connector.tls import build_tls_options
from oda.diagnosis.advice import advise_tcp, advise_tls, advise_upgrade
from oda.diagnosis.certificates import WARN_DAYS, day, days_left, explain_refusal, is_for
from oda.diagnosis.findings import Findings, Result
from oda.diagnosis.reach import Reached, Unreachable, reach, resolve
from oda.diagnosis.upgrade import Upgrade, UpgradeProbe
from oda.errors import ConnectorError
from oda.settings import ConnectorSettings, Secret
from oda.verification import CertificateRefused
from oda.wording import counted

#: Longest time that a check waits for a pong, in seconds.
MAX_PONG_WAIT_S = 10.0


class ConnectionCheck:
    """Adds to ``findings`` what there is to say of the connection that ``settings`` describe.

    ``now_ms`` is the time of day; ``random_bytes(n)`` gives n random bytes. ``step`` names the
    present step.
    """

    def __init__(
        self,
        settings: ConnectorSettings,
        findings: Findings,
        reactor: Any,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._findings = findings
        self._reactor = reactor
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self.step = "name"
        self._has_proxy = settings.proxy_host is not None
        self._host = settings.proxy_host or settings.host
        self._port = settings.proxy_port if self._has_proxy else settings.port

    @inlineCallbacks
    def run(self, identity: tuple[str, Secret] | None) -> Any:
        """Go as far as possible; fires with None at the end. ``identity`` is the device's id and
        its key; with None the check ends before the WebSocket. May be cancelled."""
        addresses = yield self._resolve()
        tls: Any = None
        if addresses and self._settings.secure:
            self.step = "tls"
            try:
                tls = build_tls_options(self._settings)
            except ConnectorError as error:
                self._fail(str(error), "check that file")
                return
        reached: list[str] = []
        dead: list[tuple[str, str]] = []
        for address in addresses:
            if (yield self._reach(address, None if self._has_proxy else tls, dead)):
                reached.append(address)
        self.step = "tcp"
        for text, advice in dead:
            result = Result.WARNING if reached else Result.FAILED
            self._findings.add(self.step, result, text, advice)
        if not reached:
            return
        self._judge_client_certificate()
        if identity is not None:
            self.step = "upgrade"
            yield self._upgrade(reached[0], identity, tls)

    # -- the steps ---------------------------------------------------------------------------

    @inlineCallbacks
    def _resolve(self) -> Any:
        self.step = "name"
        began_s = self._reactor.seconds()
        try:
            addresses = yield resolve(
                self._reactor, self._host, self._port, self._settings.connection_timeout_s
            )
        except TimeoutError:
            self._fail(
                f"the DNS server did not answer for {self._host}",
                "check this machine's DNS server (/etc/resolv.conf)",
            )
            return []
        key = "proxyHost" if self._has_proxy else "host"
        if not addresses:
            self._fail(
                f"{self._host} has no address",
                f"check '{key}', and this machine's DNS server (/etc/resolv.conf)",
            )
            return []
        took = milliseconds(self._reactor.seconds() - began_s)
        who = f"the proxy {self._host}" if self._has_proxy else self._host
        self._ok(f"{who} is {', '.join(addresses)} ({took})", addresses=addresses)
        return addresses

    @inlineCallbacks
    def _reach(self, address: str, tls: Any, dead: list[tuple[str, str]]) -> Any:
        """Whether the address can be reached. ``dead`` takes what is wrong with TCP: there the
        agent tries the next address, whereas TLS must work at each."""
        self.step = "tcp"
        where = f"{address} port {self._port}"
        limit_s = self._settings.connection_timeout_s
        try:
            reached: Reached = yield reach(self._reactor, address, self._port, tls, limit_s)
        except Unreachable as error:
            if error.is_tls:
                self._ok(f"{where} answers", address=address)
                self.step = "tls"
                yield self._explain_tls(address, error)
            else:
                advice = advise_tcp(error.error, "proxyPort" if self._has_proxy else "port")
                dead.append((f"{where}: {error}", advice))
            return False
        self._ok(f"{where} answers after {milliseconds(reached.tcp_s)}", address=address)
        if tls is not None:
            self.step = "tls"
            self._judge_tls(reached)
        return True

    def _judge_tls(self, reached: Reached) -> None:
        if self._settings.skip_verify:
            self._findings.add(
                self.step,
                Result.WARNING,
                f"{reached.tls_version}, but the certificate is NOT verified (skipVerify=true)",
                "for anything but a test: remove skipVerify, and set caFile to the authority",
            )
        else:
            took = milliseconds(reached.tls_s)
            self._ok(f"{reached.tls_version}, certificate verified ({took})")
        if reached.certificate is not None:
            self._judge_end("the platform's certificate", reached.certificate.ends_ms)

    def _judge_end(self, what: str, ends_ms: int, advice: str = "have it renewed in time") -> None:
        left = days_left(ends_ms, self._now_ms())
        text = f"{what} expires on {day(ends_ms)}, in {counted(left, 'day')}"
        if left < 0:
            text = f"{what} expired on {day(ends_ms)}"
        result = Result.OK if left >= WARN_DAYS else Result.WARNING
        self._findings.add(
            self.step,
            result,
            text,
            "" if result is Result.OK else advice,
            certificate_ends_ms=ends_ms,
        )

    @inlineCallbacks
    def _explain_tls(self, address: str, error: Unreachable) -> Any:
        """Examine the certificate that was refused. Only this handshake skips verification, and
        nothing is sent."""
        is_of_the_names = isinstance(error.error, CertificateRefused)
        if not is_of_the_names and "verify failed" not in str(error).lower():
            self._fail(str(error), advise_tls(str(error)))
            return
        unverified = build_tls_options(msgspec.structs.replace(self._settings, skip_verify=True))
        try:
            reached: Reached = yield reach(
                self._reactor,
                address,
                self._port,
                unverified,
                self._settings.connection_timeout_s,
            )
        except Unreachable:
            reached = Reached(0.0)
        if reached.certificate is None:
            self._fail(str(error), advise_tls(str(error)))
            return
        host = self._settings.host
        if is_of_the_names and is_for(reached.certificate, host):
            self._fail(str(error), f"have the certificate reissued for {host}")
            return
        text, advice = explain_refusal(
            reached.certificate,
            host,
            self._now_ms(),
            self._settings.ca_file is not None,
        )
        self._fail(f"{error}: {text}", advice)

    def _judge_client_certificate(self) -> None:
        ends_ms = file_certificate_ends_ms(self._settings.cert_file)
        if ends_ms is not None:
            self.step = "tls"
            self._judge_end("the device's certificate (certFile)", ends_ms)

    @inlineCallbacks
    def _upgrade(self, ip_address: str, identity: tuple[str, Secret], tls: Any) -> Any:
        try:
            address = build_address(self._settings, *identity)
        except ConnectorError as error:
            self._fail(str(error), "check deviceId and apiKey")
            return
        wait_s = min(self._settings.pong_timeout_s, MAX_PONG_WAIT_S)
        probe = UpgradeProbe(
            address, self._settings, tls, self._reactor, self._random_bytes, wait_s
        )
        pending: Deferred[Upgrade] = probe.run(ip_address)
        upgrade: Upgrade = yield pending
        if upgrade.opened_s is None:
            advice = advise_upgrade(upgrade.outcome, self._settings.secure)
            self._fail(
                f"{address.display}: {upgrade.outcome.reason}",
                advice,
                http_status=upgrade.outcome.http_status,
            )
            return
        self._ok(
            f"{address.display} is open after {milliseconds(upgrade.opened_s)}",
            url=address.display,
        )
        if self._has_proxy and upgrade.certificate_ends_ms is not None:
            self.step = "tls"
            self._judge_end("the platform's certificate", upgrade.certificate_ends_ms)
        self._judge_pongs(upgrade, wait_s)
        if upgrade.messages:
            self._findings.add(
                "upgrade",
                Result.WARNING,
                f"messages that the platform sent during the check, unanswered: {upgrade.messages}",
                "send those operations again once the agent runs",
            )

    def _judge_pongs(self, upgrade: Upgrade, wait_s: float) -> None:
        trips = upgrade.round_trips_s
        self.step = "ping"
        if trips:
            self._ok(
                f"round trip {milliseconds(min(trips))} (the best of {len(trips)})",
                round_trip_ms=round(min(trips) * 1000, 3),
            )
            self.step = "acknowledgement"
            self._ok("the platform repeats the payload of a ping: deliveries can be proven")
            return
        if upgrade.foreign_pongs:
            text = (
                f"{counted(upgrade.foreign_pongs, 'pong')} came, none with the payload of its ping"
            )
        elif not upgrade.outcome.by_us:
            text = f"the connection ended before any pong: {upgrade.outcome.reason}"
        else:
            text = f"no pong within {wait_s:g} s"
        self._fail(text, "")
        self.step = "acknowledgement"
        self._fail(
            "deliveries can't be proven",
            "RFC 6455 requires a pong with the payload of the ping: tell the platform's operators,"
            " or look for a proxy in between that swallows pings. Until then the agent counts"
            " messages as delivered once they are written to the network",
        )

    def _ok(self, text: str, **data: Any) -> None:
        self._findings.add(self.step, Result.OK, text, **data)

    def _fail(self, text: str, advice: str, **data: Any) -> None:
        self._findings.add(self.step, Result.FAILED, text, advice, **data)


def milliseconds(seconds: float) -> str:
    """A short time for people."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
