"""The page in Chromium: what is typed and clicked, and what then stands there."""

import os
import signal
import subprocess
import sys

import pytest

from keras_pretrain.runs.recipes import recipe_names
from keras_pretrain.serving import report

pytest_plugins = ["pages"]
SECOND = 1000
PATIENCE = 15 * SECOND  # for what a busy machine computes


@pytest.fixture
def open_page(browser):
    """Opens addresses in windows of their own; afterwards there was no error, and no request left the page's server."""
    opened, problems, requested = [], [], []

    def open_page(client, path="/", *, locale="en-US", **settings):
        context = browser.new_context(locale=locale, **settings)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: problems.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requested.append((request.url, client.address)))
        page.goto(client.address + path)
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert not problems
    assert requested
    assert [url for url, address in requested if not url.startswith(f"{address}/")] == []


def tabs_of(page):
    page.wait_for_selector("[role=tab]")
    return page.locator("[role=tab]").all_inner_texts()


def widths(page, selector):
    return page.eval_on_selector_all(selector, "all => all.map(each => each.getBoundingClientRect().width)")


def test_a_bert_fills_gaps(clients, open_page):
    page = open_page(clients["bert"])
    assert tabs_of(page) == ["Fill gaps", "Similarity"]
    assert page.inner_text("h1") == "bert"
    page.fill("#fill-text", "가 [MASK]나 다")
    page.click("#insert")  # a second gap, at the cursor
    page.click("#fill [type=submit]")
    page.wait_for_selector("#fill .bars")
    assert page.input_value("#fill-text") == "가 [MASK]나 다[MASK]"
    assert page.locator("#fill h2").all_inner_texts() == ["Gap 1", "Gap 2"]
    answers = clients["bert"].post("/api/fill", json={"text": "가 [MASK]나 다[MASK]"}).json()["gaps"]
    words = page.locator("#fill .bars b").all_inner_texts()
    assert words == [each["word"] for gap in answers for each in gap]
    shown = page.locator("#fill .bars span").all_inner_texts()
    assert shown == [f"{each['probability']:.1%}" for gap in answers for each in gap]
    assert all(width > 0 for width in widths(page, "#fill .bars i"))


def test_sentences_are_compared(clients, open_page):
    page = open_page(clients["bert"])
    page.click("text=Similarity")
    page.wait_for_selector("#fill", state="hidden")
    page.fill("#compare-text", "가 나\n\n다 라\n가 나\n")
    page.click("#compare [type=submit]")
    page.wait_for_selector("#compare td")
    cells = page.locator("#compare td").all_inner_texts()
    assert len(cells) == 9
    assert [cells[0], cells[2], cells[4]] == ["1.00"] * 3
    assert "2. 다 라" in page.inner_text("#compare .matrix")
    assert "mean last hidden states" in page.inner_text("#compare")


def test_an_electra_judges_tokens(clients, open_page):
    page = open_page(clients["electra"], "/#judge")
    assert tabs_of(page) == ["Fill gaps", "Replaced tokens", "Similarity"]
    page.fill("#judge-text", "가 나 다")
    page.press("#judge-text", "Control+Enter")
    page.wait_for_selector("#judge .tokens")
    answers = clients["electra"].post("/api/judge", json={"text": "가 나 다"}).json()["tokens"]
    shown = [text.split() for text in page.locator("#judge .tokens span").all_inner_texts()]
    assert shown == [[each["token"], f"{each['probability']:.0%}"] for each in answers]
    colours = page.eval_on_selector_all(
        "#judge .tokens span", "all => all.map(each => getComputedStyle(each).backgroundColor)"
    )
    assert len(set(colours)) == len({each["probability"] for each in answers})


def test_a_classifier_shows_its_classes(clients, open_page):
    page = open_page(clients["classifier"])
    assert tabs_of(page) == ["Classify", "Similarity"]
    page.fill("#classify-text", "가 나")
    page.fill("#classify-pair", "다")
    page.click("#classify [type=submit]")
    page.wait_for_selector("#classify .bars")
    answers = clients["classifier"].post("/api/classify", json={"text": "가 나", "pair": "다"}).json()["labels"]
    assert page.locator("#classify .bars b").all_inner_texts() == [each["label"] for each in answers]
    first, second = widths(page, "#classify .bars i")
    assert first / second == pytest.approx(answers[0]["probability"] / answers[1]["probability"], rel=0.1)


def test_a_regressor_shows_a_score(clients, open_page):
    page = open_page(clients["regressor"])
    page.fill("#classify-text", "가")
    page.click("#classify [type=submit]")
    assert page.inner_text("#classify .score").startswith("Score: ")


def test_curves_move_while_a_run_trains(run_writer, serve, open_page):
    with serve(run_writer.folder) as client:
        page = open_page(client)
        page.wait_for_selector("text=No epoch has ended yet.")
        assert tabs_of(page) == ["Run"]
        run_writer.write_epoch(loss=3.0)
        page.wait_for_selector("text=10 of 40")
        run_writer.write_epoch(loss=2.0, val_loss=2.5, learning_rate=1e-3)
        page.wait_for_selector("text=20 of 40")
        assert page.locator("#panels strong").all_inner_texts() == ["loss", "learning rate"]
        assert page.locator("#panels figcaption").first.inner_text().split("\n") == ["loss", "loss ─ 2 ╌ 2.5"]
        points = page.get_attribute("#panels polyline", "points").split()
        assert len(points) == 2
        assert not page.locator("#panels .reference").count()
        assert "Time left, about\n0:" in page.inner_text("#status")
        assert "1,000" in page.inner_text("#status")
        page.click("#settings summary")
        assert "reviews" in page.inner_text("#settings")
        for _ in range(2):
            run_writer.write_epoch(loss=1.0)
        page.wait_for_selector("text=Finished")


def test_the_curves_of_the_recipe_are_drawn_behind_those_of_the_run(
    run_writer, serve, open_page, tmp_path, monkeypatch
):
    (recipe, *_) = recipe_names()
    (tmp_path / "curves.csv").write_text("step,loss,val_loss\n10,4,NA\n30,3,NA\n40,2,3\n")
    monkeypatch.setattr(report, "curves_file", lambda *name_and_part: tmp_path / "curves.csv")
    run_writer.follow(recipe)
    run_writer.write_epoch(loss=3.0)
    with serve(run_writer.folder) as client:
        page = open_page(client)
        page.wait_for_selector(f"text=Broad, pale lines: the recipe {recipe}")
        lines = page.locator("#panels polyline")
        assert [len(line.get_attribute("points").split()) for line in lines.all()] == [3, 1]  # the recipe's is behind
        assert page.locator("#panels figcaption").first.inner_text().split("\n") == ["loss", "loss ─ 3"]


def test_the_curves_of_each_seed_move_while_it_is_fine_tuned(seed_writer, serve, open_page):
    seed_writer.write_epoch(0, 0, accuracy=0.5, loss=0.75, val_loss=0.5)
    with serve(seed_writer.folder) as client:
        page = open_page(client)
        page.wait_for_selector("text=loss, seed 0 ─ 0.75 ╌ 0.5")
        assert tabs_of(page) == ["Run"]
        seed_writer.write_epoch(0, 1, accuracy=0.75, loss=0.25, val_loss=0.5)
        page.wait_for_selector("text=loss, seed 0 ─ 0.25 ╌ 0.5")
        assert page.locator("#panels strong").all_inner_texts() == ["loss", "accuracy"]
        assert "Step\n20" in page.inner_text("#status")
        seed_writer.write_epoch(1, 0, accuracy=0.5, loss=0.5, val_loss=0.25)
        page.wait_for_selector("text=loss, seed 1 ─ 0.5 ╌ 0.25")
        colours = page.eval_on_selector_all(
            "#panels figure:first-child polyline", "all => all.map(each => getComputedStyle(each).stroke)"
        )
        assert colours[0] == colours[1] != colours[2] == colours[3]


def test_a_korean_browser_gets_korean_words(clients, open_page):
    page = open_page(clients["bert"], locale="ko-KR")
    assert tabs_of(page) == ["빈칸 채우기", "유사도"]
    assert page.get_attribute("html", "lang") == "ko"
    page.fill("#fill-text", "가 나")
    page.click("#fill [type=submit]")
    assert page.inner_text("#fill .error") == "빈칸이 없습니다. 모델이 채울 자리에 [MASK]라고 쓰십시오."


def test_every_word_is_in_both_languages(clients, open_page):
    page = open_page(clients["bert"])
    keys = page.evaluate("Object.values(WORDS).map(words => Object.keys(words).sort())")
    assert set(keys[0]) == set(keys[1]) - {"refused", "failed"}  # the server's own messages are English
    used = page.eval_on_selector_all("[data-t]", "all => all.map(each => each.dataset.t)")
    assert set(used) <= set(keys[0])


@pytest.mark.parametrize(
    ("name", "task", "text", "message"),
    [
        ("bert", "fill", "", "Write something first."),
        ("bert", "fill", "가", "Write [MASK]"),
        ("bert", "fill", "[MASK]" + "가" * 5000, "at most 5000 characters"),
        ("electra", "judge", " ", "Write something first."),
        ("classifier", "classify", "", "Write something first."),
        ("bert", "compare", "가", "two to eight sentences"),
    ],
)
def test_what_is_wrong_is_said_at_the_input(clients, open_page, name, task, text, message):
    page = open_page(clients[name], f"/#{task}")
    page.fill(f"#{task}-text", text)
    page.click(f"#{task} [type=submit]")
    assert message in page.inner_text(f"#{task} .error")
    page.fill(f"#{task}-text", "가 [MASK]\n나")
    page.click(f"#{task} [type=submit]")
    page.wait_for_selector(f"#{task} .result > *")
    assert not page.is_visible(f"#{task} .error")


def test_text_is_never_read_as_html(clients, open_page):
    page = open_page(clients["bert"], "/#compare")
    page.fill("#compare-text", "<img src=x onerror=alert(1)>\n<b>가</b>")
    page.click("#compare [type=submit]")
    page.wait_for_selector("#compare td")
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#compare .matrix")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_has_nothing_beside_it(clients, open_page, scheme):
    page = open_page(clients["electra"], viewport={"width": 360, "height": 700}, color_scheme=scheme)
    for task, text in {"fill": "가 [MASK] 나", "judge": "가 나 다 " * 20, "compare": "가 나 다\n라 마\n" * 4}.items():
        page.goto(f"{clients['electra'].address}/#{task}")
        page.fill(f"#{task}-text", text)
        page.click(f"#{task} [type=submit]")
        page.wait_for_selector(f"#{task} .result > *")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(back.strip("rgb()").split(",")[0]) > 128) == (scheme == "light")


def test_the_command_serves_the_page_until_ctrl_c(folders, browser):
    command = [sys.executable, "-m", "keras_pretrain", "serve", str(folders / "bert"), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}  # conftest's
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == f"Loading {folders / 'bert'} …\n"
        address, _, rest = process.stdout.readline().partition(" ")
        assert rest == f"shows {folders / 'bert'}. Ctrl-C ends it.\n"
        page = browser.new_page()
        page.goto(address)
        page.fill("#fill-text", "가 [MASK]")
        page.click("#fill [type=submit]")
        page.wait_for_selector("#fill .bars")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
        assert (process.returncode, output, errors) == (130, "", "")
        page.click("#fill [type=submit]")
        page.wait_for_selector("#fill .error:has-text('The server does not answer.')")
        page.close()
