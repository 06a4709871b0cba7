"""The page, in a real browser: by keyboard, side by side, in light and dark, narrow and wide."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Scripted, desk_of, serving, train_two

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt-get install chromium")
expect: Any = getattr(playwright, "expect", None)

HOSTILE = ["<img src=x onerror=alert(1)>", " <script>alert(2)</script>", " &amp; café"]


@pytest.fixture(scope="module")
def root(encoded_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two(encoded_root, tmp_path_factory.mktemp("page") / "root")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page, what its console said, and where it went."""

    def __init__(self, browser: Any, address: str, **look: Any) -> None:
        self.page = browser.new_page(**look)
        self.complaints, self.elsewhere = [], []
        self.page.on("console", lambda said: said.type in {"error", "warning"} and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self._note)
        self._address = address
        self.page.goto(address)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self._address, "data:")):
            self.elsewhere.append(request.url)

    def ask(self, prompt: str) -> None:
        self.page.get_by_label("Your message").fill(prompt)
        expect(self.page.get_by_role("button", name="Send")).to_be_enabled()  # once it knows which models there are
        self.page.keyboard.press("Enter")

    def close_in_peace(self) -> None:
        fits = "document.documentElement.scrollWidth <= innerWidth"
        assert self.page.evaluate(fits), "the page is wider than its window"
        self.page.close()
        assert (self.complaints, self.elsewhere) == ([], [])


def test_a_talk_by_keyboard_streams_is_counted_and_goes_on(browser: Any, root: Path, tmp_path: Path) -> None:
    desk = desk_of(root, "chat")
    script = Scripted(desk, ["It ", "grinds ", "every ", "shard ", *["of text "] * 20, "once."], seconds=0.02)
    with serving(desk) as address:
        watched = Watched(browser, address, viewport={"width": 1280, "height": 800})
        page = watched.page
        expect(page.get_by_role("heading", name="Talk to chat@10")).to_be_visible()
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
        expect(page.get_by_label("Your message")).to_be_focused()
        page.get_by_label("Your message").type("what does")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("the mill do?")
        page.keyboard.press("Enter")
        answer = page.get_by_role("article")
        expect(answer).to_contain_text("It grinds every")
        assert "once." not in answer.inner_text()  # it streams
        expect(answer).to_contain_text("once.")
        expect(answer.locator(".count")).to_have_text(re.compile(r"25 tokens · [\d.]+ tok/s"))
        assert page.locator(".asked").inner_text() == "what does\nthe mill do?"
        expect(page.get_by_label("Your message")).to_be_focused()
        page.screenshot(path=tmp_path / "talk.png")
        watched.ask("again")
        expect(page.get_by_role("article").nth(1)).to_contain_text("once.")
        page.get_by_role("button", name="New chat").click()
        expect(page.get_by_role("article")).to_have_count(0)
        watched.close_in_peace()
    assert len(script.samplings) == 2
    assert script.samplings[0].seed != script.samplings[1].seed


def test_escape_stops_an_answer_and_the_model(browser: Any, root: Path) -> None:
    desk = desk_of(root, "chat")
    script = Scripted(desk, ["word "] * 256, seconds=0.02)
    with serving(desk) as address:
        watched = Watched(browser, address)
        watched.ask("go on")
        expect(watched.page.get_by_role("article")).to_contain_text("word")
        watched.page.keyboard.press("Escape")
        expect(watched.page.locator(".count")).to_contain_text("stopped")
        expect(watched.page.get_by_role("button", name="Send")).to_be_visible()
        n_said = script.n_said
        watched.page.wait_for_timeout(200)
        assert script.n_said <= n_said + 2
        watched.ask("and again")
        expect(watched.page.get_by_role("article").nth(1)).to_contain_text("word")
        watched.page.get_by_role("button", name="Stop").click()
        expect(watched.page.locator(".count").nth(1)).to_contain_text("stopped")
        watched.close_in_peace()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_two_checkpoints_answer_one_prompt_side_by_side(
    browser: Any, root: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    base = desk_of(root, "base")
    Scripted(base, ["word "] * 50)
    with serving(desk_of(root, "chat"), base) as address:
        watched = Watched(browser, address, viewport={"width": width, "height": 844}, color_scheme=scheme)
        page = watched.page
        page.get_by_role("button", name="Compare").click()
        if width < 960:
            page.get_by_role("button", name="Settings").click()
        page.get_by_role("group", name="Side B").get_by_label("Max tokens").fill("7")
        page.get_by_role("group", name="Side A").get_by_label("Seed").fill("3")
        page.get_by_label("System prompt").fill("Be short.")
        assert page.get_by_label("System prompt").bounding_box()["width"] > 200
        page.screenshot(path=tmp_path / "settings.png")
        watched.ask("mill 1?")
        for name in ("chat@10", "base@10"):
            answer = page.get_by_role("article", name=f"Answer of {name}")
            expect(answer.locator(".count")).to_have_text(
                re.compile(r"[\d,]+ tokens?( · [\d.]+ tok/s)?( · reached max tokens)?")
            )
            expect(answer).not_to_have_class(re.compile("busy"))
        expect(page.get_by_role("article", name="Answer of base@10").locator(".count")).to_contain_text("7 tokens")
        left, right = (box.bounding_box() for box in page.get_by_role("article").all())
        assert (left["y"] == right["y"]) == (width == 1280)
        assert min(left["width"], right["width"]) > 340
        assert page.locator("form#composer").bounding_box()["width"] > 340
        page.screenshot(path=tmp_path / f"compare_{width}.png")
        watched.close_in_peace()


def test_what_a_model_says_is_shown_and_never_run(browser: Any, root: Path) -> None:
    desk = desk_of(root, "chat")
    Scripted(desk, HOSTILE)
    with serving(desk) as address:
        watched = Watched(browser, address)
        watched.ask("<b>bold</b>")
        expect(watched.page.locator(".said")).to_have_text("".join(HOSTILE))
        assert watched.page.locator("#talk img, #talk script, #talk b").count() == 0
        watched.close_in_peace()


def test_the_page_asks_for_the_key_and_says_what_went_wrong(browser: Any, root: Path) -> None:
    desk = desk_of(root, "chat")
    Scripted(desk, ["!"])
    with serving(desk, names=None, key="s3cret") as address:
        watched = Watched(browser, address)
        for key in ("wrong", "s3cret"):
            watched.page.get_by_role("textbox", name="Key").fill(key)
            watched.page.keyboard.press("Enter")
        expect(watched.page.get_by_role("heading", name="Talk to chat@10")).to_be_visible()
        watched.ask("Hi")
        expect(watched.page.locator(".wrong")).to_have_text("the model failed; the server's terminal says why")
        assert all("401" in complaint for complaint in watched.complaints)  # the browser's own word for a locked door
        watched.complaints.clear()
        watched.close_in_peace()
