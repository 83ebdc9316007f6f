"""The names that Go has for cipher suites and curves, and what OpenSSL calls them."""

from collections.abc import Sequence

# https://pkg.go.dev/crypto/tls#CipherSuites, those that Go does not call insecure.
_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
# Always on where TLS 1.3 is: neither Go nor Python can choose among them.
_TLS13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}


def only_tls13(names: Sequence[str]) -> bool:
    """Tell whether suites are named, and none that TLS 1.2 has."""
    return bool(names) and all(name in _TLS13 for name in names)


def suites(names: Sequence[str], where: str, max_version: str) -> tuple[str, ...]:
    """Return OpenSSL's names of the suites for TLS 1.2 and before.

    Raises:
        ValueError: an unknown suite, or none that `max_version` has; `where` is what they stand at.
    """
    for name in names:
        if name not in _SUITES and name not in _TLS13:
            raise ValueError(f"{where}: {name!r} is none of {', '.join((*_SUITES, *_TLS13))}")
    if only_tls13(names) and max_version != "TLS13":
        raise ValueError(f"{where}: none that TLS below 1.3 has, and max_version is {max_version}")
    return tuple(_SUITES[name] for name in names if name in _SUITES)


def curve(names: Sequence[str], where: str) -> str:
    """Return OpenSSL's name of the one curve that is named; empty if none is.

    Raises:
        ValueError: an unknown curve, or several, among which Python's ssl cannot choose.
    """
    for name in names:
        if name not in _CURVES:
            raise ValueError(f"{where}: {name!r} is none of {', '.join(_CURVES)}")
    if len(names) > 1:
        raise ValueError(f"{where}: only one curve can be set here; without any, OpenSSL's own are used")
    return _CURVES[names[0]] if names else ""
