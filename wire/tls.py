"""TLS for both sides, from files of certificates and keys in PEM form."""

import ssl
from pathlib import Path


def server_tls(
    certificate: str | Path, key: str | Path, *, client_authority: str | Path | None = None
) -> ssl.SSLContext:
    """What a listener shows, and whom it asks for a certificate.

    Args:
        certificate: Its chain of certificates.
        key: The private key that belongs to it.
        client_authority: Who has to have signed the certificates of those who connect; None if
            they need not show any.

    Raises:
        OSError: A file cannot be read (`ssl.SSLError` is an OSError too: it is not what it should
            be).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(
    authority: str | Path | None = None,
    *,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
) -> ssl.SSLContext:
    """Whom a dialler trusts, and what it shows if it is asked.

    Args:
        authority: Who has to have signed the listener's certificate; those whom the system trusts
            if None.
        certificate: The dialler's own chain of certificates; None if it has none.
        key: The private key that belongs to it.

    Raises:
        OSError: See `server_tls`.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
