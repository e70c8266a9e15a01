"""The page's server over HTTP: what it answers, and what it refuses."""

import http.client
import json
import socket
import threading

import numpy as np
import pytest
import requests
import tensorflow as tf
from conftest import WORDS
from transformers import TFElectraForPreTraining

from keras_pretrain.export.answers import fill_gaps
from keras_pretrain.finetuning import predict
from keras_pretrain.serving.answering import Answerer
from keras_pretrain.serving.inputs import MAX_BYTES, MAX_CHARACTERS

pytest_plugins = ["pages"]
pytestmark = pytest.mark.usefixtures("without_xla")


def asked(client, task, **body):
    response = client.post(f"/api/{task}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_gaps_are_filled_as_fill_gaps_does(clients, folders):
    text = "가 [MASK]나 [MASK]"
    gaps = asked(clients["bert"], "fill", text=text)["gaps"]
    expected = fill_gaps(folders / "bert", [text])[0]
    assert [[each["word"] for each in gap] for gap in gaps] == [[each.word for each in gap] for gap in expected]
    values = [[each["probability"] for each in gap] for gap in gaps]
    np.testing.assert_allclose(values, [[each.probability for each in gap] for gap in expected], rtol=1e-5)


def test_the_generator_of_an_electra_fills_its_gaps(clients, folders):
    gaps = asked(clients["electra"], "fill", text="가 [MASK]")["gaps"]
    expected = fill_gaps(folders / "electra" / "generator", ["가 [MASK]"])[0]
    assert [each["word"] for each in gaps[0]] == [each.word for each in expected[0]]


def test_tokens_are_judged_as_the_discriminator_does(clients, folders, tokenizer):
    tokens = asked(clients["electra"], "judge", text="가 나 힣")["tokens"]
    assert [each["token"] for each in tokens] == ["가", "나", "[UNK]"]
    network = TFElectraForPreTraining.from_pretrained(folders / "electra")
    logits = network(tokenizer("가 나 힣", return_tensors="tf")).logits.numpy()[0, 1:-1]
    np.testing.assert_allclose([each["probability"] for each in tokens], 1 / (1 + np.exp(-logits)), rtol=1e-4)


@pytest.mark.parametrize("pair", [None, "다 라"])
def test_classes_are_those_of_predict(clients, folders, pair):
    labels = asked(clients["classifier"], "classify", text="가 나", **({"pair": pair} if pair else {}))["labels"]
    said = predict(folders / "classifier", ["가 나"], [pair] if pair else None)
    assert labels[0]["label"] == said.labels[0]
    np.testing.assert_allclose([each["probability"] for each in labels], sorted(said.probabilities[0])[::-1], rtol=1e-4)


def test_a_regressor_has_a_score(clients, folders):
    score = asked(clients["regressor"], "classify", text="가 나")["score"]
    assert score == pytest.approx(predict(folders / "regressor", ["가 나"]).labels[0], rel=1e-4)


@pytest.mark.parametrize("name", ["bert", "electra", "classifier", "encoder"])
def test_sentences_are_compared_by_their_mean_hidden_states(clients, folders, tokenizer, name):
    texts = ["가 나 다", "라", "가 나 다"]
    found = np.array(asked(clients[name], "compare", texts=texts)["similarities"])
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-5)
    assert found[0, 2] == pytest.approx(1, rel=1e-5)
    assert found[0, 1] == pytest.approx(found[1, 0], rel=1e-6)
    if name == "encoder":
        from transformers import TFBertModel

        network = TFBertModel.from_pretrained(folders / name)
        means = [network(tokenizer(each, return_tensors="tf"))[0].numpy()[0].mean(axis=0) for each in texts[:2]]
        cosine = np.dot(*means) / np.prod([np.linalg.norm(each) for each in means])
        assert found[0, 1] == pytest.approx(cosine, rel=1e-4)


def test_a_long_text_is_cut_and_the_page_is_told(clients):
    long = " ".join(WORDS * 60)
    assert asked(clients["bert"], "fill", text=f"[MASK] {long}")["cut"] == 512
    assert asked(clients["classifier"], "classify", text=long)["cut"] == 512
    assert asked(clients["electra"], "judge", text=f"가 {long}")["cut"] == 512
    assert asked(clients["bert"], "fill", text="[MASK] 가")["cut"] is None
    response = clients["bert"].post("/api/fill", json={"text": f"{long} [MASK]"})
    assert (response.status_code, response.json()["code"]) == (400, "gap_cut")


JSON = {"content-type": "application/json"}
NOT_TEXT, SURROGATE = "must be a text", "surrogate"


@pytest.mark.parametrize(
    ("task", "body", "status", "message"),
    [
        ("fill", {"text": ""}, 400, "empty"),
        ("fill", {"text": " \n"}, 400, "empty"),
        ("fill", {"text": "가 나"}, 400, r"Write \[MASK\]"),
        ("fill", {"text": "[MASK]" + "가" * MAX_CHARACTERS}, 400, "longer than 5,000 characters"),
        ("fill", {}, 400, NOT_TEXT),
        ("fill", {"text": 5}, 400, NOT_TEXT),
        ("fill", {"text": ["[MASK]"]}, 400, NOT_TEXT),
        ("fill", ["[MASK]"], 400, "JSON object"),
        ("fill", b"{", 400, "no valid JSON"),
        ("fill", b"\xff\xfe", 400, "no valid JSON"),
        ("fill", b"[" * 50_000, 400, "no valid JSON"),
        ("fill", rb'{"text": "[MASK] \ud800"}', 400, SURROGATE),
        ("compare", {"texts": ["가"]}, 400, "2 to 8"),
        ("compare", {"texts": ["가"] * 9}, 400, "2 to 8"),
        ("compare", {"texts": "가나"}, 400, "must be a list"),
        ("compare", {"texts": ["가", ""]}, 400, "empty"),
        ("compare", {"texts": ["가" * 3000] * 2}, 400, "longer than 5,000 characters"),
        ("judge", {"text": "가"}, 404, "Not Found"),
        ("run", {"text": "가"}, 404, "Not Found"),
    ],
)
def test_wrong_input_is_refused_with_a_message(clients, task, body, status, message):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = clients["bert"].post(f"/api/{task}", data=content, headers=JSON)
    assert response.status_code == status
    answer = response.json()
    assert set(answer) == {"error", "code"}
    with pytest.raises(ValueError, match=message):
        raise ValueError(answer["error"])


def test_an_empty_pair_is_refused(clients):
    response = clients["classifier"].post("/api/classify", json={"text": "가", "pair": " "})
    assert (response.status_code, response.json()["code"]) == (400, "empty")


def test_a_large_body_is_not_read(clients):
    def parts():
        for _ in range(10):
            yield b" " * 10_000

    response = clients["bert"].post("/api/fill", data=b" " * (MAX_BYTES + 1), headers=JSON)
    assert response.status_code == 413
    response = clients["bert"].post("/api/fill", data=parts(), headers=JSON)  # chunked: no length is stated
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_large_body_is_refused_before_it_arrives(clients):
    host, port = clients["bert"].address.removeprefix("http://").split(":")
    head = f"POST /api/fill HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 1000000000"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_one_computation_at_a_time_while_the_page_still_answers(clients, monkeypatch):
    running, most, has_begun, may_end = [], [], threading.Event(), threading.Event()

    def answer(self, task, texts):
        running.append(texts)
        most.append(len(running))
        has_begun.set()
        may_end.wait(30)
        running.pop()
        return {}

    monkeypatch.setattr(Answerer, "answer", answer)
    address = clients["bert"].address
    asking = {"target": requests.post, "args": (f"{address}/api/fill",), "kwargs": {"json": {"text": "[MASK]"}}}
    threads = [threading.Thread(**asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert has_begun.wait(30)
    assert requests.get(f"{address}/api/about").status_code == 200
    may_end.set()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_other_types_of_content_are_refused(clients):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = clients["bert"].post("/api/fill", data=b'{"text": "[MASK]"}', headers={"content-type": kind})
        assert response.status_code == 415


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8765", "10.0.0.1", "[::1", "localhost@x"])
def test_other_names_are_refused(clients, host):
    for response in (
        clients["bert"].get("/", headers={"host": host}),
        clients["bert"].post("/api/fill", json={"text": "[MASK]"}, headers={"host": host}),
    ):
        assert (response.status_code, response.json()["code"]) == (403, "refused")


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:9000", "LOCALHOST", "[::1]:8765"])
def test_names_of_this_machine_are_not_refused(clients, host):
    assert clients["bert"].get("/api/about", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_other_pages_are_refused(clients, origin):
    response = clients["bert"].post("/api/fill", json={"text": "[MASK]"}, headers={"origin": origin})
    assert response.status_code == 403
    assert clients["bert"].get("/api/about", headers={"origin": origin}).status_code == 403


def test_the_page_itself_is_not_refused(clients):
    headers = {"origin": clients["bert"].address}
    assert clients["bert"].post("/api/fill", json={"text": "[MASK]"}, headers=headers).status_code == 200


def test_nothing_is_shared_with_other_origins(clients):
    for path in ("/", "/static/page.js", "/static/page.css", "/static/icon.svg", "/api/about", "/nothing"):
        headers = clients["bert"].get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control-")]
    response = clients["bert"].options("/api/fill", headers={"origin": clients["bert"].address})
    assert response.status_code == 405


def test_models_are_asked_by_post_alone(clients):
    assert clients["bert"].get("/api/fill").status_code == 405
    assert clients["bert"].put("/api/fill", json={"text": "[MASK]"}).status_code == 405
    assert clients["bert"].post("/").status_code == 405


def test_the_static_folder_is_not_left(clients):
    for path in ("/static/../application.py", "/static/%2e%2e/application.py", "/static/..%2fapplication.py"):
        connection = http.client.HTTPConnection(clients["bert"].address.removeprefix("http://"))
        connection.request("GET", path)  # as it stands: other clients resolve the dots
        assert connection.getresponse().status == 404
        connection.close()


def test_a_failed_computation_is_no_traceback(clients, monkeypatch):
    def fail(*arguments, **settings):
        raise RuntimeError("private detail")

    monkeypatch.setattr(tf.math, "top_k", fail)
    response = clients["bert"].post("/api/fill", json={"text": "[MASK]"})
    assert response.status_code == 500
    assert "private detail" not in response.text
    assert response.headers["connection"] == "close"
    assert response.json()["code"] == "failed"


def test_a_diverged_model_has_no_probabilities(clients, monkeypatch):
    top_k = tf.math.top_k
    monkeypatch.setattr(tf.math, "top_k", lambda values, k: top_k(values * np.nan, k))
    gaps = asked(clients["bert"], "fill", text="[MASK]")["gaps"]
    assert {each["probability"] for each in gaps[0]} == {None}


def test_what_the_page_is_told(clients, folders):
    about = clients["classifier"].get("/api/about").json()
    assert about["folder"] == str(folders / "classifier")
    assert about["tasks"] == ["classify", "compare"]
    assert about["knows_hangul"]
    assert about["model"]["model_type"] == "bert"


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        ("192.168.0.5", "192.168.0.5:8765", 200),
        ("192.168.0.5", "192.168.0.6:8765", 403),
        ("0.0.0.0", "192.168.0.6:8765", 200),  # an address cannot be rebound
        ("0.0.0.0", "evil.example:8765", 403),
        ("::", "[2001:db8::1]:8765", 200),
    ],
)
def test_beyond_loopback_the_bound_address_is_taken(run_writer, serve, bound, host, status):
    with serve(run_writer.folder, bound) as client:
        assert client.get("/api/about", headers={"host": host}).status_code == status
