import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from certificates import make_authority
from qmail_exporter.web.ciphers import _SUITES
from qmail_exporter.web.document import parse
from qmail_exporter.web.door import Door
from qmail_exporter.web.settings import RateLimit, Settings, parse_settings

EXAMPLE = Path(__file__).parents[2] / "deploy/web/web.example.yml"
HERE = Path("/etc/qmail-exporter")
HASH = "$2b$04$TtyVa2Lr2DeiPnD6nqVtfOeX0gZK8VcTw6m1z4eAwGy2kRr5KnW8i"
CERTIFIED = "cert_file: a.crt, key_file: a.key"


def settings(text: str) -> Settings:
    return parse_settings(parse(text.encode()), HERE)


def tls(more: str) -> Any:
    return settings(f"tls_server_config: {{{CERTIFIED}, {more}}}").tls


@pytest.mark.parametrize(
    "text", ["", "{}", "# nothing", "---", "tls_server_config:", "tls_server_config: {}"]
)
def test_nothing_is_plain_http(text: str) -> None:
    """A file that sets nothing is plain HTTP for everybody."""
    assert settings(text) == Settings()


def test_paths_begin_at_the_file() -> None:
    """Relative paths begin at the file's directory; absolute ones stay."""
    found = settings("tls_server_config: {cert_file: pki/a.crt, key_file: /k/a.key}").tls
    assert found is not None
    assert found.files == (HERE / "pki/a.crt", Path("/k/a.key"))
    assert (found.min_version, found.max_version, found.http2, found.server_order) == (
        "TLS12",
        "TLS13",
        True,
        True,
    )


def test_inline_texts_are_no_files() -> None:
    """Certificate, key and authority can stand in the file itself; a key is not shown by repr."""
    found = settings(
        "tls_server_config: {cert: C, key: K-SECRET, client_ca: A, client_auth_type: VerifyClientCertIfGiven}"
    ).tls
    assert found is not None
    assert (found.files, found.certificate.text, found.key.text) == ((), "C", "K-SECRET")
    assert "K-SECRET" not in repr(found)


def test_all_is_read() -> None:
    """Every other key has its effect on the settings."""
    found = settings(f"""
tls_server_config:
  {CERTIFIED.replace(", ", chr(10) + "  ")}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example]
  min_version: TLS11
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  curve_preferences: [CurveP384]
  prefer_server_cipher_suites: false
http_server_config:
  http2: off
  headers: {{X-Frame-Options: deny, Content-Security-Policy: "", X-XSS-Protection: 0}}
basic_auth_users: {{123: {HASH}, é: {HASH}}}
rate_limit: {{interval: 1m30s, burst: 3}}
""")
    assert found.tls is not None
    assert found.tls.client_ca is not None
    assert found.tls.client_ca.path == HERE / "ca.crt"
    assert found.tls.client_sans == {"prometheus.example"}
    assert (found.tls.min_version, found.tls.max_version, found.tls.curve) == ("TLS11", "TLS12", "secp384r1")
    assert (found.tls.ciphers, found.tls.server_order, found.tls.http2) == (
        ("ECDHE-RSA-AES128-GCM-SHA256",),
        False,
        False,
    )
    assert found.headers == ((b"x-frame-options", b"deny"), (b"x-xss-protection", b"0"))
    assert dict(found.users) == {"123": HASH.encode(), "é": HASH.encode()}
    assert found.rate_limit == RateLimit(90, 3)
    assert HASH not in repr(found)


def test_only_suites_of_tls13_leave_tls13() -> None:
    """With suites of TLS 1.3 alone TLS 1.2 is not spoken, as in Go, where it would find no suite."""
    assert tls("cipher_suites: [TLS_AES_128_GCM_SHA256]").min_version == "TLS13"


@pytest.mark.parametrize("interval", ["0", "0s", ""])
def test_no_interval_is_no_limit(interval: str) -> None:
    """An interval of 0 switches the rate limit off."""
    assert settings(f"rate_limit: {{interval: '{interval}', burst: 0}}").rate_limit is None


MISTAKES = {
    "tls_server_confg: {}": "tls_server_confg: unknown; did you mean tls_server_config?",
    "zzz: 1": "zzz: unknown; there are basic_auth_users, http_server_config, rate_limit, tls_server_config",
    "tls_server_config: {certfile: a}": "tls_server_config.certfile: unknown; did you mean cert_file?",
    "http_server_config: {headers: {X-Frame-Option: deny}}": "http_server_config.headers.X-Frame-Option: unknown; did you mean X-Frame-Options?",
    "http_server_config: {headers: {X-Frame-Options: allow}}": "http_server_config.headers.X-Frame-Options: 'allow' is none of deny, sameorigin",
    'http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb: c"}}': "http_server_config.headers.X-XSS-Protection: has characters that a header cannot have",
    "http_server_config: {http2: maybe}": "http_server_config.http2: 'maybe' is neither true nor false",
    "http_server_config: [http2]": "http_server_config: not a mapping",
    "- a": "not a mapping of settings",
    "just text": "not a mapping of settings",
    "rate_limit: {burst: 1, burst: 2}": "line 1, column 24: 'burst' is given twice",
    "rate_limit: {[1]: 2}": "line 1, column 14: a key is no text",
    "a: [1": "line 1, column 6: expected ',' or ']', but got '<stream end>'",
    "a: *b": "line 1, column 4: found undefined alias 'b'",
    "\x00": 'no YAML: unacceptable character #x0000: special characters are not allowed in "<byte string>", position 0',
    'a: "\\U00110000"': "line 1: a number that is too large",
    'a: "\\UFFFFFFFF"': "line 1: a number that is too large",
    'rate_limit: {"x\\n": 1}': "line 1, column 14: 'x\\n' has characters that no key has",
    '"\\e[31m": 1': "line 1, column 1: '\\x1b[31m' has characters that no key has",
    'tls_server_config: {cert_file: "\\ud800"}': "line 1, column 32: half a character",
    "tls_server_config: {min_version: TLS13}": "tls_server_config: cert_file is missing, without which there is no TLS",
    "tls_server_config: {cert_file: a}": "tls_server_config: key_file is missing, without which there is no TLS",
    "tls_server_config: {cert_file: a, cert: b, key: c}": "tls_server_config.cert: given here and as cert_file",
    "basic_auth_users: {a: hunter2}": "basic_auth_users.a: no bcrypt hash; `htpasswd -nBC 10 a` makes one",
    "basic_auth_users: {a: }": "basic_auth_users.a: no bcrypt hash; `htpasswd -nBC 10 a` makes one",
    "basic_auth_users: {a: [b]}": "basic_auth_users.a: not a text",
    f"basic_auth_users: {{'a:b': {HASH}}}": "basic_auth_users: 'a:b' has characters that a user cannot have",
    f"basic_auth_users: {{a: {HASH.replace('$04$', '$24$')}}}": "basic_auth_users.a: the hash's cost is 24, and not from 4 to 16",
    "rate_limit: {interval: soon, burst: 1}": "rate_limit.interval: 'soon' is no duration such as 90, 30m or 1h30m",
    "rate_limit: {interval: 5, burst: 1}": "rate_limit.interval: '5' has no unit: write 1s, 500ms or 1m",
    "rate_limit: {interval: 1s}": "rate_limit.burst: 0 would let no request through",
    "rate_limit: {interval: 1s, burst: -1}": "rate_limit.burst: '-1' is no number of requests",
}
TLS_MISTAKES = {
    "min_version: TLS14": "min_version: 'TLS14' is none of TLS10, TLS11, TLS12, TLS13",
    "min_version: TLS13, max_version: TLS12": "min_version: TLS13 is above max_version, TLS12",
    "client_auth_type: Always": "client_auth_type: 'Always' is none of NoClientCert, VerifyClientCertIfGiven, "
    "RequireAndVerifyClientCert, RequestClientCert, RequireAnyClientCert, RequireClientCert",
    "client_auth_type: RequestClientCert": "client_auth_type: RequestClientCert takes certificates that nobody verified, which is "
    "not possible here: write RequireAndVerifyClientCert or NoClientCert",
    "client_auth_type: RequireAnyClientCert, client_ca: a": "client_auth_type: RequireAnyClientCert takes certificates that nobody "
    "verified, which is not possible here: write RequireAndVerifyClientCert or NoClientCert",
    "client_auth_type: RequireAndVerifyClientCert": "client_auth_type: RequireAndVerifyClientCert needs client_ca_file, to verify with",
    "client_ca_file: a": "client_ca_file: has no effect without client_auth_type, such as RequireAndVerifyClientCert",
    "client_auth_type: VerifyClientCertIfGiven, client_ca: a, client_allowed_sans: [b]": "client_allowed_sans: needs client_auth_type "
    "RequireAndVerifyClientCert",
    "client_allowed_sans: b": "client_allowed_sans: not a list",
    "client_allowed_sans: [{}]": "client_allowed_sans: an item that is no text",
    "cipher_suites: [TLS_AES_128_GCM_SHA256], max_version: TLS12": "cipher_suites: none that TLS below 1.3 has, and max_version is TLS12",
    "curve_preferences: [X25519, CurveP256]": "curve_preferences: only one curve can be set here; without any, OpenSSL's own are used",
    "curve_preferences: [P256]": "curve_preferences: 'P256' is none of CurveP256, CurveP384, CurveP521, X25519",
    'key_file: "a\\0b"': "key_file: no path",
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.items())
def test_mistakes(text: str, said: str) -> None:
    """Every mistake is told in one line that names the key and what would be right."""
    with pytest.raises(ValueError, match=r".") as error:
        settings(text)
    assert str(error.value) == said


@pytest.mark.parametrize(("text", "said"), TLS_MISTAKES.items())
def test_mistakes_of_tls(text: str, said: str) -> None:
    """So is one in what TLS is to be; whatever cannot be done here is refused."""
    given = "cert_file: a.crt" if text.startswith("key_file") else CERTIFIED
    with pytest.raises(ValueError, match=r".") as error:
        settings(f"tls_server_config: {{{given}, {text}}}")
    assert str(error.value) == f"tls_server_config.{said}"


def test_insecure_suites_are_refused() -> None:
    """A suite that Go calls insecure is refused, with the list of those that are not."""
    with pytest.raises(ValueError, match="'TLS_RSA_WITH_RC4_128_SHA' is none of TLS_ECDHE_ECDSA_"):
        tls("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]")
    assert tls(f"cipher_suites: [{', '.join(_SUITES)}]").ciphers == tuple(_SUITES.values())


def test_a_wrong_password_hash_is_not_shown() -> None:
    """A password in the place of its hash does not get into the message."""
    with pytest.raises(ValueError, match="no bcrypt hash") as error:
        settings("basic_auth_users: {a: hunter2}")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000])
def test_deep_nesting(text: str) -> None:
    """A document nested without end is refused like any other mistake."""
    with pytest.raises(ValueError, match="nested too deeply"):
        settings(text)


scalars = st.sampled_from(["", "~", "true", "TLS12", "a", "1s", "-1", HASH]) | st.text(max_size=5)
keys = st.sampled_from(
    [
        "tls_server_config",
        "http_server_config",
        "basic_auth_users",
        "rate_limit",
        "cert",
        "key",
        "headers",
        "interval",
        "burst",
    ]
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | scalars, inner, max_size=4),
    max_leaves=12,
)


@given(documents.map(lambda document: yaml.safe_dump(document).encode()) | st.binary(max_size=60))
def test_any_document(text: bytes) -> None:
    """Whatever stands in the file, it is settings or one line of complaint."""
    said = ""
    try:
        parse_settings(parse(text), HERE)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The shipped example beside the files that it names."""
    made = make_authority()
    made.write(tmp_path)
    made.write_ca(tmp_path / "clients-ca.crt")
    return Path(shutil.copy(EXAMPLE, tmp_path / "web.yml"))


def test_example(example: Path) -> None:
    """The shipped example is understood, and demands what it says."""
    door = Door(example)
    assert door.settings.tls is not None
    assert door.settings.tls.client_auth == "RequireAndVerifyClientCert"
    assert list(door.settings.users) == ["prometheus"]
    assert door.encryption() is not None


def test_example_whole(example: Path) -> None:
    """It is understood too with all that stands in comments put in force."""
    text = example.read_text()
    for old in [line for line in text.splitlines() if line.lstrip().startswith("# ")]:
        new = old.replace("# ", "", 1)
        bare = new.strip()
        if bare.startswith("- ") or bare.partition(":")[0] in {
            *(
                "client_allowed_sans",
                "max_version",
                "cipher_suites",
                "prefer_server_cipher_suites",
                "curve_preferences",
            ),
            *("http2", "rate_limit", "interval", "burst"),
        }:
            text = text.replace(old, new)
    example.write_text(text)
    found = Door(example).settings
    assert found.tls is not None
    assert found.tls.client_sans == {"prometheus.example.com"}
    assert (found.tls.curve, len(found.tls.ciphers)) == ("prime256v1", 2)
    assert found.rate_limit == RateLimit(1, 20)


def test_example_satisfies_promtool(example: Path) -> None:
    """Prometheus's own check accepts it."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, "check", "web-config", str(example)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
