"""The command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.application.service import Application
from twisted.internet import ssl
from twisted.logger import ILogObserver, Logger
from twisted.python.usage import UsageError

from oda.errors import ConfigurationError
from oda.platform.access import Denied, Request
from oda.platform.faults import Fault, PongMode
from oda.platform.tap import Options, makeService
from oda.platform.tls import load_server_tls


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def test_defaults() -> None:
    """Without options: the documented ports and path, loopback, any key, in memory."""
    platform = makeService(parse())
    assert (platform.port, platform.http_port, platform.interface) == (9955, 9956, "127.0.0.1")
    assert platform.url == "ws://127.0.0.1:9955/south/v80/sessions"


def test_options_reach_the_platform(tmp_path: Path) -> None:
    """Each option does what it says."""
    keys = tmp_path / "keys"
    keys.write_text("dev-1=one\n")
    scenario = tmp_path / "chaos.txt"
    scenario.write_text("at 10s freeze 30s")
    options = parse(
        "--port", "0", "--no-http", "--interface", "::1", "--path", "x", "--key", "all",
        "--keys-file", str(keys), "--scenario", str(scenario), "--fault", "freeze",
        "--fault", "on dev-1 pong=drop",
    )  # fmt: skip
    platform = makeService(options)
    assert platform.http_port is None
    assert platform.url == "ws://[::1]:0/x"
    assert platform.faults.effective("dev-1") == Fault(freeze=True, pong=PongMode.DROP)
    options.key_ring.check(Request("dev-1", b"one"))
    options.key_ring.check(Request("dev-2", b"all"))
    with pytest.raises(Denied):
        options.key_ring.check(Request("dev-1", b"all"))
    assert len(options.steps) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--port", "x"], "port"),
        (["--port", "70000"], "port"),
        (["--cert", "x"], "--key-file"),
        (["--client-ca", "x"], "--cert"),
        (["--durable"], "--database"),
        (["--fault", "frieze"], "frieze: unknown"),
        (["--fault", "on d"], "fault: is missing"),
        (["--keys-file", "/none/keys"], "/none/keys"),
        (["--scenario", "/none/chaos"], "/none/chaos"),
        (["--seed", "x"], "seed"),
    ],
)
def test_mistakes_are_named(arguments: list[str], problem: str) -> None:
    """A wrong option ends in a usage error that says which and why."""
    with pytest.raises(UsageError, match=problem):
        parse(*arguments)


class Authority:
    """A certificate authority for one test, and what it signs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = directory / "ca.pem"
        own = self._build(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def _build(self, subject: x509.Name, key: Any, *extensions: Any) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for ``name`` and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        certificate = self._build(subject, key, names)
        cert_file, key_file = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest_twisted.ensureDeferred
async def test_devices_connect_by_tls(authority: Authority, start: Any, connect: Any) -> None:
    """With a certificate the device port speaks TLS; faults work there too."""
    cert, key = authority.issue("localhost")
    platform = start(tls=load_server_tls(cert, key))
    assert platform.url.startswith("wss://")
    trust = ssl.Certificate.loadPEM(authority.file.read_bytes())
    device = connect(platform, tls=ssl.optionsForClientTLS("localhost", trust))
    await device.next("open")
    device.datapoint(1)
    device.ping()
    await device.next("pong")
    assert platform.latest("dev-1")[0].value == 1
    platform.faults.set(None, Fault(reset=True))
    await device.next("close")


@pytest_twisted.ensureDeferred
async def test_devices_may_need_a_certificate(
    authority: Authority, start: Any, connect: Any
) -> None:
    """With ``client_ca`` a device without a certificate of that authority gets no connection."""
    cert, key = authority.issue("localhost")
    platform = start(tls=load_server_tls(cert, key, authority.file))
    trust = ssl.Certificate.loadPEM(authority.file.read_bytes())
    stranger = connect(platform, tls=ssl.optionsForClientTLS("localhost", trust))
    await stranger.next("close")
    assert stranger.pending("open") == []
    own_cert, own_key = authority.issue("device")
    own = ssl.CertificateOptions(
        privateKey=serialization.load_pem_private_key(own_key.read_bytes(), None),
        certificate=x509.load_pem_x509_certificate(own_cert.read_bytes()),
        trustRoot=trust,
    )
    device = connect(platform, tls=own)
    await device.next("open")


def test_bad_tls_files_are_named(authority: Authority, tmp_path: Path) -> None:
    """Which file can't be used, and why."""
    cert, key = authority.issue("a")
    _, other_key = authority.issue("b")
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("x")
    for arguments, problem in (
        ((rubbish, key), "rubbish: holds no certificate"),
        ((cert, rubbish), "rubbish: is not a private key"),
        ((cert, other_key), "does not belong"),
        ((tmp_path / "none", key), "none: can't be read"),
        ((cert, key, rubbish), "rubbish: holds no certificate"),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            load_server_tls(*arguments)


def test_the_log_under_twistd_is_that_of_oda_platform(tmp_path: Path) -> None:
    """Both ways to run the platform write the same lines: a component has one name."""
    options: Any = parse("--port", "0", "--no-http")
    options.parent = {"nodaemon": True, "logfile": str(tmp_path / "platform.log")}
    platform = makeService(options)
    application: Any = Application("oda-platform")
    platform.setServiceParent(application)
    observer = ILogObserver(application)
    Logger(namespace="oda.platform.service", observer=observer).info("devices connect")
    Logger(namespace="twisted.internet.base", observer=observer).info("starting up")
    components = [
        line.partition(" ")[2] for line in (tmp_path / "platform.log").read_text().splitlines()
    ]
    assert components == ["[platform.service#info] devices connect", "[twisted#info] starting up"]


def test_a_log_file_that_cannot_be_opened_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The start ends with the reason instead of a traceback."""
    options: Any = parse("--port", "0")
    options.parent = {"nodaemon": True, "logfile": str(tmp_path / "missing" / "log")}
    with pytest.raises(SystemExit):
        makeService(options)
    assert "missing/log" in capsys.readouterr().err
