"""TLS from files."""

import ssl
from pathlib import Path

import pytest
import trustme

from trouper.wire.tls import client_tls, server_tls


@pytest.fixture
def files(tmp_path: Path) -> Path:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return tmp_path


def test_listener_asks_for_no_certificate_unless_told_to(files: Path) -> None:
    context = server_tls(files / "certificate.pem", files / "key.pem")
    assert context.verify_mode is ssl.CERT_NONE
    context = server_tls(
        files / "certificate.pem", files / "key.pem", client_authority=files / "authority.pem"
    )
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_dialler_always_asks_for_one_and_looks_at_the_name(files: Path) -> None:
    for context in (
        client_tls(),
        client_tls(files / "authority.pem"),
        client_tls(
            files / "authority.pem", certificate=files / "certificate.pem", key=files / "key.pem"
        ),
    ):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_dialler_trusts_the_authority_that_it_is_given_and_no_other(files: Path) -> None:
    assert len(client_tls(files / "authority.pem").get_ca_certs()) == 1


def test_file_that_is_not_there_is_named(files: Path) -> None:
    with pytest.raises(FileNotFoundError):
        server_tls(files / "nowhere.pem", files / "key.pem")
    with pytest.raises(FileNotFoundError):
        client_tls(files / "nowhere.pem")


def test_key_of_another_certificate_is_refused(files: Path) -> None:
    other = trustme.CA().issue_cert("127.0.0.1")
    other.private_key_pem.write_to_path(files / "other.pem")
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        server_tls(files / "certificate.pem", files / "other.pem")
