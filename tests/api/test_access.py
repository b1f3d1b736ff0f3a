"""Who is let in, who may act, and what does somebody hear who may not?"""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.api.bind import refuse_open
from orchestrator.api.throttle import Throttle
from orchestrator.api.tokens import FILE_NAME, Role, TokenError, Tokens
from orchestrator.api.wish import Wish
from orchestrator.home import Home
from tests.api.harness import Browser, play
from tests.api.homes import HELD, filled
from tests.story.scripted import RUN

NOW = 1_700_000_000.0
ELSEWHERE = Wish(host="0.0.0.0", port=0)
STOP = f"/api/runs/{HELD}/actions/stop"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return filled(tmp_path_factory.mktemp("access") / "home")


@pytest.fixture
def tokens(home: Home) -> dict[str, str]:
    (home.root / FILE_NAME).unlink(missing_ok=True)
    known = Tokens(home.root)
    return {role.value: known.add(role.value, role, NOW) for role in Role}


def test_a_token_is_kept_as_a_digest_in_a_file_of_its_owner(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    said = tokens.add("ann", Role.OPERATOR, NOW)
    path = tmp_path / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert said.split("_", 2)[2] not in path.read_text()
    found = Tokens(tmp_path).login(said, NOW)
    assert found is not None
    cookie, who = found
    assert (who.name, who.role) == ("ann", Role.OPERATOR)
    again = tokens.session(cookie, NOW + 1)
    assert again == who
    assert tokens.session(cookie, NOW + 8 * 86400) is None, "too old"
    tokens.remove("ann")
    assert tokens.session(cookie, NOW + 1) is None, "its token is gone"
    path.chmod(0o644)
    with pytest.raises(TokenError, match="chmod 600"):
        Tokens(tmp_path).all()


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 41, "-x", "é"])
def test_a_token_needs_a_plain_name_and_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(TokenError):
        Tokens(tmp_path).add(name, Role.VIEWER, NOW)
    Tokens(tmp_path).add("ann", Role.VIEWER, NOW)
    with pytest.raises(TokenError, match="there is a token"):
        Tokens(tmp_path).add("ann", Role.VIEWER, NOW)


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_a_forged_cookie_is_nobodys(forged: str) -> None:
    assert _FORGED.session(forged, NOW) is None


@given(st.integers(0, 200), st.characters())
@settings(max_examples=150, deadline=None)
def test_a_cookie_with_one_character_changed_is_nobodys(place: int, other: str) -> None:
    place %= len(_COOKIE)
    changed = _COOKIE[:place] + other + _COOKIE[place + 1 :]
    if changed != _COOKIE:
        found = _FORGED.session(changed, NOW)
        # The last character of a signature has bits that say nothing; none of them says who.
        assert found is None or place == len(_COOKIE) - 1


def _tokens(tmp: Path) -> tuple[Tokens, str]:
    tokens = Tokens(tmp)
    found = tokens.login(tokens.add("ann", Role.VIEWER, NOW), NOW)
    assert found is not None
    return tokens, found[0]


@pytest.fixture(scope="module", autouse=True)
def _made(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _FORGED, _COOKIE
    _FORGED, _COOKIE = _tokens(tmp_path_factory.mktemp("tokens"))


_FORGED: Tokens
_COOKIE: str


def test_failed_logins_wait_longer_and_longer_but_nobody_waits_for_ever() -> None:
    throttle = Throttle()
    waits = []
    for n in range(12):
        throttle.failed("10.0.0.1", NOW + n)
        waits.append(throttle.wait_s("10.0.0.1", NOW + n))
    assert waits[:4] == [0, 0, 0, 0]
    assert waits[4:8] == [1, 2, 4, 8]
    assert max(waits) <= 60
    assert throttle.wait_s("10.0.0.2", NOW + 12) == 0, "somebody else"
    assert throttle.wait_s("10.0.0.1", NOW + 700) == 0, "forgotten"


def test_many_addresses_are_no_way_around_it_and_a_token_comes_through() -> None:
    throttle = Throttle()
    for n in range(200):
        throttle.failed(f"10.0.{n}.1", NOW)
    assert throttle.wait_s("192.168.0.9", NOW) == 0, "one is let in"
    assert 0 < throttle.wait_s("192.168.0.9", NOW + 0.1) <= 3
    assert throttle.wait_s("192.168.0.9", NOW + 3) == 0


def test_all_addresses_of_one_household_are_one() -> None:
    throttle = Throttle()
    for n in range(8):
        throttle.failed(f"2001:db8::{n}", NOW)
    assert throttle.wait_s("2001:db8::ffff", NOW) > 0
    assert throttle.wait_s("2001:db8:0:1::1", NOW) == 0


@pytest.mark.parametrize(
    ("host", "tokens", "refused"),
    [
        *((host, [], False) for host in ("127.0.0.1", "localhost", "::1")),
        *((host, [], True) for host in ("0.0.0.0", "::", "10.0.0.5", "box.local")),
        ("0.0.0.0", ["one"], False),
    ],
)
def test_only_loopback_is_open_without_a_token(host: str, tokens: list[str], refused: bool) -> None:
    assert (refuse_open(host, tokens, ()) is not None) == refused


def test_a_server_that_can_be_reached_wants_a_login_and_says_nothing_before(home: Home, tokens: dict[str, str]) -> None:
    async def course(browser: Browser) -> None:
        session = await browser.json("/api/session")
        assert (session["login"], session["role"], session["csrf"], session["host"]) == (True, None, None, None)
        for path in (
            "/api/home",
            f"/api/runs/{RUN}",
            "/api/stream",
            "/api/nodes",
            f"/api/runs/{RUN}/logs/lines?source=x",
        ):
            answer = await browser.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "login"), path
            assert RUN not in answer.text
        assert (await browser.login("lg_00000000_wrong")).status_code == 401
        good = await browser.login(tokens["viewer"])
        assert good.status_code == 200
        assert tokens["viewer"] not in good.text
        cookie = good.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await browser.json("/api/session"))["role"] == "viewer"
        assert (await browser.get("/api/home")).status_code == 200

    play(home, course, wish=ELSEWHERE)


def test_a_viewer_cannot_act(home: Home, tokens: dict[str, str]) -> None:
    async def course(browser: Browser) -> None:
        await browser.login(tokens["viewer"])
        answer = await browser.post(STOP, {"now": True})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "viewer cannot act" in answer.json()["error"]
        offered = (await browser.json(f"/api/runs/{HELD}"))["actions"]
        assert not any(action["allowed"] for action in offered)

    play(home, course, wish=ELSEWHERE)


def test_an_action_of_a_page_elsewhere_is_refused(home: Home, tokens: dict[str, str]) -> None:
    async def course(browser: Browser) -> None:
        await browser.login(tokens["operator"])
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            {"x_lastgood_csrf": ""},
            {"x_lastgood_csrf": "x" * 43},
        ):
            answer = await browser.post(STOP, {"now": True}, **headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), headers
        form = await browser.http.post(STOP, data={"now": "true"}, headers={"x-lastgood-csrf": browser.csrf})
        assert form.status_code == 400, "a form of a page cannot send JSON"
        text = await browser.http.post(STOP, content='{"now": true}', headers={"content-type": "text/plain"})
        assert text.status_code == 400
        assert (await browser.get(STOP)).status_code == 405
        read = await browser.get("/api/home", headers={"sec-fetch-site": "cross-site"})
        assert read.status_code == 403

    play(home, course, wish=ELSEWHERE)


def test_a_name_of_somebody_else_that_leads_here_is_refused(home: Home) -> None:
    async def course(browser: Browser) -> None:
        for host in ("evil.example", "evil.example:7117", "127.0.0.1.evil.example", "", "[::1", "localhost.evil"):
            answer = await browser.get("/api/home", headers={"host": host})
            assert answer.status_code in (400, 421), host
        for host in ("localhost:1", "127.0.0.1", "[::1]:7117", "LOCALHOST"):
            assert (await browser.get("/api/home", headers={"host": host})).status_code == 200, host

    play(home, course)


def test_guessing_is_slowed_down_and_sessions_are_not(home: Home, tokens: dict[str, str]) -> None:
    async def course(browser: Browser) -> None:
        await browser.login(tokens["viewer"])
        answers = [(await browser.http.post("/api/login", json={"token": f"lg_x_{n}"})).status_code for n in range(8)]
        assert answers[:5] == [401] * 5
        assert 429 in answers[5:]
        waiting = await browser.http.post("/api/login", json={"token": tokens["operator"]})
        assert waiting.status_code == 429
        assert 1 <= int(waiting.headers["retry-after"]) <= 61
        assert (await browser.get("/api/home")).status_code == 200

    play(home, course, wish=ELSEWHERE)


def test_bodies_heads_and_addresses_have_an_end(home: Home) -> None:
    async def course(browser: Browser) -> None:
        large = await browser.post(STOP, {"now": True, "x": "y" * 20_000})
        assert large.status_code == 413

        async def endless() -> object:
            for _ in range(100):
                yield b"x" * 1024

        headers = {"content-type": "application/json", "x-lastgood-csrf": browser.csrf}
        chunked = await browser.http.post(STOP, content=endless(), headers=headers)  # type: ignore[arg-type]
        assert chunked.status_code == 413
        assert (await browser.get("/api/home?" + "x" * 5000)).status_code == 400
        for body in ("", "[", "[1]", '{"now": 1}', '{"nope": true}', "[" * 5000, '{"now": NaN}', "\ud800"):
            content = body.encode(errors="surrogatepass")
            answer = await browser.http.post(STOP, content=content, headers=headers)
            assert answer.status_code in (400, 503), body[:20]
        assert (await browser.post(f"/api/runs/{RUN}/actions/explode", {})).status_code == 404
        assert (await browser.post("/api/runs/nope/actions/stop", {})).status_code == 404

    play(home, course)


def test_an_action_without_a_supervisor_says_so(home: Home) -> None:
    async def course(browser: Browser) -> None:
        answer = await browser.post(STOP, {})
        assert (answer.status_code, answer.json()["code"]) == (503, "no_supervisor")
        assert (await browser.get(f"/api/runs/{RUN}/ranks")).status_code == 503

    play(home, course)


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_request_end_one_connection(garbage: bytes) -> None:
    _GARBAGE.append(garbage)


_GARBAGE: list[bytes] = []


def test_the_server_survives_them(home: Home) -> None:
    async def course(browser: Browser) -> None:
        port = browser.http.base_url.port
        for garbage in (*_GARBAGE, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, b"\x00" * 70_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(garbage + b"\r\n\r\n")
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 30)
            writer.close()
        assert (await browser.get("/api/home")).status_code == 200

    play(home, course)


PATHS = st.text(alphabet="abc/.%2e%5c\\~?&=#\x00é\n -_0123456789", max_size=80)


def test_no_address_leads_out_of_a_run(home: Home) -> None:
    secret = home.root / "token"

    async def course(browser: Browser) -> None:
        for source in (
            *(
                "../../token",
                "1/0/1/1/../../token",
                "/etc/passwd",
                "1/0/1/1/stdout/../../../../../../token",
                "a" * 5000,
            ),
            *(
                "1/0/1/1/stdout\x00",
                "٣/0/1/1/stdout",
                "-1/0/1/1/stdout",
                "999999/0/1/1/stdout",
                "supervisor/../token",
                "",
            ),
        ):
            answer = await browser.get(f"/api/runs/{RUN}/logs/lines", params={"source": source})
            assert answer.status_code in (400, 404), source
            assert secret.read_text().strip() not in answer.text
        link = home.run(RUN) / "attempts" / "001" / "node0" / "w1" / "rank7"
        link.mkdir(exist_ok=True)
        for name, target in (("stdout.log", secret), ("stderr.log", Path("/dev/zero"))):
            (link / name).unlink(missing_ok=True)
            (link / name).symlink_to(target)
            answer = await browser.get(f"/api/runs/{RUN}/logs/lines?source=1/0/1/7/{name.removesuffix('.log')}")
            assert answer.status_code == 404

    play(home, course)


def test_any_address_gets_an_answer_and_never_a_fault(home: Home) -> None:
    found: list[str] = []

    @given(PATHS, PATHS)
    @settings(max_examples=80, deadline=None)
    def collect(path: str, query: str) -> None:
        found.append(f"/{path}?{query}")

    collect()

    async def course(browser: Browser) -> None:
        for prefix in ("", "/api", f"/api/runs/{RUN}", "/static"):
            for path in found[:60]:
                raw = (prefix + path).encode(errors="replace").replace(b"\n", b"%0a").replace(b" ", b"%20")
                status = await _raw(browser, raw.replace(b"\x00", b"%00"))
                assert status < 500 or status == 503, (prefix, path)

    play(home, course)


async def _raw(browser: Browser, path: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.http.base_url.port)
    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head = await asyncio.wait_for(reader.readline(), 30)
    writer.close()
    return int(head.split()[1])


def test_the_files_of_a_dashboard_are_closed_to_others(home: Home) -> None:
    async def course(_: Browser) -> None:
        body = json.loads((home.root / "dashboard.address").read_text())
        assert body["url"].startswith("http://127.0.0.1:")
        assert stat.S_IMODE((home.root / "dashboard.address").stat().st_mode) == 0o600

    play(home, course)
