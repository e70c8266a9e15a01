"""Models that are pushed to a Hub on loopback and loaded by name in a process that has never seen their folders; and
what of this machine is in the upload."""

import json
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hub_server import TOKEN
from transformers import BertConfig, ElectraConfig

import keras_pretrain as kp
from keras_pretrain.evaluation import evaluate_mlm

WIDTHS = {
    "vocab_size": 15, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
EVALUATION = {"block_size": 16, "batch_size": 8, "seed": 3}

READER = """
import json, re, sys
import keras_pretrain as kp
import numpy as np, tensorflow as tf
from datasets import Dataset
from huggingface_hub import hf_hub_download
from transformers import TFAutoModel
from keras_pretrain.evaluation import compare_mlm, evaluate_mlm
from keras_pretrain.models.loading import find_checkpoint

inputs = {name: tf.constant(value) for name, value in np.load(sys.argv[1]).items()}
sentences = Dataset.from_dict({"sentences": json.loads(sys.argv[3])})
settings = json.loads(sys.argv[4])
first = sys.argv[5]
bert = kp.BertPretrainer.from_pretrained("me/my_bert")
electra = kp.ElectraPretrainer.from_pretrained("me/my_electra")
classifier = kp.finetuning.load_classifier("me/my_classifier")
encoder = kp.finetuning.load_classifier("me/my_electra", labels=["a", "b"])
apart = kp.ElectraPretrainer.from_pretrained("me/my_electra", "me/my_electra")
results = {
    "bert": bert(inputs).prediction_logits,
    "discriminator": electra.discriminator(inputs).logits,
    "generator": electra.generator(inputs).logits,
    "apart": apart.generator(inputs).logits,
    "classifier": classifier(inputs).logits,
    "encoder": encoder.electra(inputs).last_hidden_state,
    "auto": TFAutoModel.from_pretrained("me/my_electra")(inputs).last_hidden_state,
    "subfolder": kp.finetuning.load_classifier("me/my_electra", subfolder="generator", labels=["a"]).electra(inputs)[0],
    "first": kp.BertPretrainer.from_pretrained("me/my_bert", revision=first)(inputs).prediction_logits,
    "predicted": kp.finetuning.predict("me/my_classifier", ["가 나", "다"]).probabilities,
}
for repository, folder in (("my_bert", ""), ("my_electra", ""), ("my_electra", "generator"), ("my_classifier", "")):
    card = open(hf_hub_download(f"me/{repository}", "README.md", subfolder=folder or None), encoding="utf-8").read()
    blocks = re.findall(r"(TensorFlow|Pipeline|To continue)[^\\n]*:\\n\\n```python\\n(.*?)\\n```", card, re.DOTALL)
    names = {}
    for kind, block in blocks:
        exec(block, names)
        if kind == "TensorFlow":
            logits = names["model"](inputs)
            results[f"card {repository}/{folder}"] = logits.get("logits", logits.get("prediction_logits"))
np.savez(sys.argv[2], **{name: np.asarray(value) for name, value in results.items()})
figures = {name: evaluate_mlm(f"me/my_{name}", sentences, **settings) for name in ("bert", "electra")}
compared = compare_mlm({"bert": "me/my_bert", "electra": "me/my_electra"}, sentences, **settings)
tokens = len(find_checkpoint("me/my_electra").tokenizer())
print("RESULT", json.dumps([figures, compared, tokens]))
"""


def with_random_weights(model, seed):
    """Biases and layer norms are born 0 and 1: as random numbers they cannot be lost unseen."""
    rng = np.random.default_rng(seed)
    for network in (model.generator, model.discriminator) if hasattr(model, "generator") else (model,):
        network.build_in_name_scope()
        for weight in network.weights:
            weight.assign(weight.numpy() + 0.1 * rng.standard_normal(weight.shape))
    return model


def push(model, tokenizer, folder, **settings):
    kp.save_checkpoint(model, tokenizer, folder, **settings)
    kp.push_to_hub(folder, f"me/{folder.name}", token=TOKEN)


def run_reader(script, hub, home, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=home
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_what_is_pushed_comes_back_by_name_in_another_process(hub, tokenizer, sentences, tmp_path):
    bert = with_random_weights(kp.BertPretrainer(BertConfig(**WIDTHS)), 0)
    configs = [ElectraConfig(embedding_size=8, **(WIDTHS | width)) for width in ({"hidden_size": 8}, {})]
    electra = with_random_weights(kp.ElectraPretrainer(*configs, tokenizer), 1)
    classifier = with_random_weights(kp.finetuning.BertClassifier(BertConfig(num_labels=2, **WIDTHS)), 2)
    inputs = dict(tokenizer(["가 [MASK] 다", "라 마"], ["바 사", "아"], padding=True, return_tensors="np"))
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    first = bert(tensors).prediction_logits
    push(bert, tokenizer, tmp_path / "my_bert")
    push(with_random_weights(bert, 3), tokenizer, tmp_path / "my_bert")
    push(electra, tokenizer, tmp_path / "my_electra")
    push(classifier, tokenizer, tmp_path / "my_classifier")
    few = sentences.select(range(3))
    expected = {
        "bert": bert(tensors).prediction_logits,
        "discriminator": electra.discriminator(tensors).logits,
        "generator": electra.generator(tensors).logits,
        "apart": electra.generator(tensors).logits,
        "classifier": classifier(tensors).logits,
        "encoder": electra.discriminator.electra(tensors).last_hidden_state,
        "auto": electra.discriminator.electra(tensors).last_hidden_state,
        "subfolder": electra.generator.electra(tensors).last_hidden_state,
        "first": first,
        "predicted": kp.finetuning.predict(classifier, ["가 나", "다"], tokenizer=tokenizer).probabilities,
    }
    expected |= {
        "card my_bert/": expected["bert"],
        "card my_electra/": expected["discriminator"],
        "card my_electra/generator": expected["generator"],
        "card my_classifier/": expected["classifier"],
    }
    np.savez(tmp_path / "inputs.npz", **inputs)
    home = tmp_path / "home"
    home.mkdir()
    texts, settings = json.dumps(few["sentences"][:]), json.dumps(EVALUATION)
    output = run_reader(READER, hub, home, tmp_path / "inputs.npz", home / "out.npz", texts, settings, f"{1:040x}")
    seen = dict(np.load(home / "out.npz"))
    assert seen.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(seen[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    figures, compared, tokens = json.loads(output.split("RESULT ")[1])
    for name, model in (("bert", bert), ("electra", electra)):
        ours = evaluate_mlm(model, few, tokenizer, **EVALUATION)
        assert figures[name] == compared[name] == pytest.approx(ours, rel=1e-5)
    assert tokens == 15


def text_of(data: bytes) -> bytes:
    """A file's bytes, and what a PNG has compressed in its text chunks."""
    texts, place = [data], 8
    while data.startswith(b"\x89PNG") and place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        chunk, place = data[place + 8 : place + 8 + length], place + 12 + length
        for start in range(len(chunk)) if kind in (b"zTXt", b"iTXt", b"iCCP", b"eXIf") else ():
            try:
                texts.append(zlib.decompress(chunk[start:]))
            except zlib.error:
                continue
    return b"\n".join(texts)


def test_the_search_sees_what_a_png_has_compressed():
    content = b"Comment\0\0" + zlib.compress(b"kim_zq17" * 9)
    chunk = len(content).to_bytes(4, "big") + b"zTXt" + content + b"\0\0\0\0"
    assert b"kim_zq17" not in b"\x89PNG\r\n\x1a\n" + chunk
    assert b"kim_zq17" in text_of(b"\x89PNG\r\n\x1a\n" + chunk)


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_nothing_of_this_machine_is_uploaded(hub, tokenizer, tmp_path, monkeypatch, package_log, kind):
    monkeypatch.setenv("USER", "kim_zq17")
    monkeypatch.setenv("HOME", str(tmp_path / "home_of_kim_zq17"))
    base, folder = tmp_path / "base_vk83", tmp_path / "out_wj29" / "my_model"
    make = {
        "bert": lambda: kp.BertPretrainer(BertConfig(**WIDTHS)),
        "electra": lambda: kp.ElectraPretrainer(
            *(ElectraConfig(embedding_size=8, **WIDTHS) for _ in range(2)), tokenizer
        ),
    }[kind]
    kp.save_checkpoint(make(), tokenizer, base)
    model, base_tokenizer = type(make()).from_pretrained(base), type(tokenizer).from_pretrained(base)
    base_tokenizer.init_kwargs |= {"special_tokens_map_file": str(base / "special_tokens_map.json")}
    folder.mkdir(parents=True)
    arguments = {
        "corpus": str(tmp_path / "corpus_hx55.txt"), "prepared": None, "init_from": str(base), "output": str(folder),
        "tensorboard": "logs_rm71", "task_train": "labels_pt64.csv", "resume": True, "size": "tiny", "language": "ko",
        "learning_rate": 1e-3, "block_size": 128,
    }  # fmt: skip
    old = {"val_loss": 7.25, "arguments": arguments, "corpus": {"train": 144}, "versions": {"keras_pretrain": "0.1.0"}}
    (folder / "metrics.json").write_text(json.dumps(old))
    (folder / "run.yaml").write_text(f"corpus: {tmp_path / 'corpus_hx55.txt'}\n")
    (folder / "events.out.tfevents.1.host_of_kim_zq17").write_text("")
    (folder / "history.csv").write_text("epoch,step,loss,val_loss\n1,1,2.0,3.0\n2,2,1.0,2.0\n")
    from keras_pretrain.training.curves import draw_training_curves

    draw_training_curves(folder / "history.csv", folder / "training_curves.png")
    kp.save_checkpoint(model, base_tokenizer, folder)
    kp.push_to_hub(folder, "me/my_model", token=TOKEN)

    files = hub.repositories["me/my_model"]["files"]
    assert {"README.md", "metrics.json", "model.safetensors", "training_curves.png", "history.csv"} <= set(files)
    assert ("generator/model.safetensors" in files) == (kind == "electra")
    private = ["kim_zq17", "base_vk83", "out_wj29", "hx55", "rm71", "pt64", str(tmp_path), tmp_path.name]
    for name, data in files.items():
        found = [word for word in private if word.encode() in name.encode() + text_of(data)]
        assert not found, f"{name} has {found}"
    assert json.loads((folder / "metrics.json").read_text()) == old  # at home nothing is changed
    metrics = json.loads(files["metrics.json"])
    assert metrics["settings"] == {"size": "tiny", "learning_rate": 1e-3, "block_size": 128}
    assert metrics["corpus"] == {"name": None, "on_hub": False, "language": "ko", "train": 144}
    assert re.search(r"metrics\.json .*paths", package_log.text)
    card = files["README.md"].decode()
    assert "Corpus: a local corpus; Korean; 144 documents for train." in card
    assert "| block size | 128 |" in card
    assert not re.search(r"tmp|/home", card)
