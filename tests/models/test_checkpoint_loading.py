"""Which network is found, in which format, and what is said of a checkpoint that cannot be loaded."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hub_server import TOKEN
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, ElectraConfig

import keras_pretrain as kp
from keras_pretrain.evaluation import evaluate_mlm
from keras_pretrain.models.loading import check_checkpoint, find_checkpoint, find_electra

WIDTHS = {
    "vocab_size": 15, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
IDS = tf.constant([[2, 5, 6, 7, 3]])


@pytest.fixture(scope="module")
def bert(tokenizer, tmp_path_factory):
    return kp.save_checkpoint(kp.BertPretrainer(BertConfig(**WIDTHS)), tokenizer, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def electra(tokenizer, tmp_path_factory):
    configs = [ElectraConfig(embedding_size=8, **WIDTHS) for _ in range(2)]
    return kp.save_checkpoint(kp.ElectraPretrainer(*configs, tokenizer), tokenizer, tmp_path_factory.mktemp("electra"))


@pytest.fixture
def broken(bert, tmp_path):
    """A copy to break."""
    for file in bert.iterdir():
        if not file.name.startswith("."):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def read_from(hub, monkeypatch):
    """What the client makes of HF_ENDPOINT at import."""
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template)


def no_network(*_, **__):
    raise AssertionError("a request was made")


@pytest.mark.parametrize("name", ["./x", "/x/y", "a/b/c", "../x", "~/x_that_is_not_there", "x y", ""])
def test_what_cannot_be_a_name_on_the_hub_is_a_folder_that_is_missing(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras_pretrain.models.loading.snapshot_download", no_network)
    with pytest.raises(FileNotFoundError, match=r"no folder|no config\.json") as caught:
        check_checkpoint(name)
    assert name in str(caught.value)


def test_a_model_that_neither_the_disk_nor_the_hub_has_is_said(hub):
    for name in ("my_bert", "me/my_bert"):
        with pytest.raises(FileNotFoundError, match=rf"no folder {name} .*\bHub\b.*\btoken\b") as caught:
            check_checkpoint(name, token="hf_secret")
        assert "hf_secret" not in str(caught.value)
        assert caught.value.__context__ is None


def test_a_private_model_needs_its_token(hub, bert, tmp_path, monkeypatch):
    read_from(hub, monkeypatch)
    kp.push_to_hub(bert, "me/my_bert", private=True, token=TOKEN)
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    with pytest.raises(FileNotFoundError, match=r"me/my_bert .*\bHub\b.*\btoken\b"):
        check_checkpoint("me/my_bert", cache_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"me/my_bert .*no such revision"):
        check_checkpoint("me/my_bert", cache_dir=tmp_path, token=TOKEN, revision="v1")
    found = check_checkpoint("me/my_bert", cache_dir=tmp_path, token=TOKEN)
    assert not list(tmp_path.rglob(WEIGHTS))  # not before they are needed
    assert found.weights() == [found.folder / WEIGHTS]
    again = check_checkpoint("me/my_bert", cache_dir=tmp_path, local_files_only=True)
    assert again.weights() == found.weights()


def test_offline_a_model_that_is_not_in_the_cache_is_said():
    with pytest.raises(FileNotFoundError, match=r"me/my_bert .*offline"):
        check_checkpoint("me/my_bert")


def test_a_file_is_no_checkpoint(bert):
    with pytest.raises(FileNotFoundError, match=r"/config\.json is a file.*folder"):
        check_checkpoint(bert / "config.json")


def test_the_parts_of_an_electra(electra):
    assert find_checkpoint(electra).folder == electra
    assert find_checkpoint(electra, generator=True).folder == electra / "generator"
    assert find_checkpoint(electra, subfolder="generator", generator=True).folder == electra / "generator"
    assert [each.folder for each in find_electra(electra)] == [electra, electra / "generator"]
    assert [each.folder for each in find_electra(electra, electra)] == [electra, electra / "generator"]
    assert check_checkpoint(electra, ("electra",)).name == str(electra)
    with pytest.raises(ValueError, match=r"/generator .*no generator/.*name the generator's checkpoint"):
        find_electra(electra / "generator")


def test_a_bert_beside_what_is_left_of_an_electra_is_a_bert(broken, electra):
    (broken / "generator").mkdir()
    (broken / "generator" / "config.json").write_bytes((electra / "generator" / "config.json").read_bytes())
    assert find_checkpoint(broken, generator=True).folder == broken


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def cut_off(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])


def without_layout(folder):
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)


def lose_shard(folder):
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


WEIGHTS = "model.safetensors"
BREAKAGES = {
    "no config": (remove("config.json"), FileNotFoundError, "no config.json"),
    "invalid config": (write("config.json", b"{"), ValueError, r"config.json .* not valid JSON"),
    "config not in UTF-8": (write("config.json", b"\xff"), ValueError, r"config.json .* not valid JSON"),
    "config is a list": (write("config.json", b"[]"), ValueError, "it is not an object"),
    "other type": (write("config.json", b'{"model_type": "t5"}'), ValueError, r"model type 't5'; .* 'bert'"),
    "no weights": (remove(WEIGHTS), FileNotFoundError, "has no weights"),
    "no tokenizer": (remove("tokenizer.json", "vocab.txt"), FileNotFoundError, r"has no tokenizer .* give another"),
    "cut off": (cut_off, ValueError, r"model\.safetensors of .* cut off"),
    "empty": (write(WEIGHTS, b""), ValueError, r"model\.safetensors of .* no header"),
    "not safetensors": (write(WEIGHTS, b"\x10" + bytes(50)), ValueError, r"model\.safetensors of .* no header"),
    "pointer": (
        write(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"),
        ValueError,
        "model.safetensors of .*Git LFS.*`git lfs pull`",
    ),
    "no layout": (without_layout, ValueError, "layout.*'format', 'pt' or 'tf'"),
    "missing shard": (lose_shard, FileNotFoundError, r"lacks .*index\.json.*: model-00001-of-00001"),
    "h5": (lambda folder: (folder / WEIGHTS).rename(folder / "tf_model.h5"), ValueError, "tf_model.h5 of .*HDF5"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_checkpoint_is_refused(broken, name):
    check_checkpoint(broken, ("bert",))
    destroy, kind, message = BREAKAGES[name]
    destroy(broken)
    with pytest.raises(kind, match=message) as caught:
        check_checkpoint(broken, ("bert",))
    assert str(broken) in str(caught.value)
    loaders = [lambda: evaluate_mlm(broken, None)]
    if name != "no tokenizer":
        loaders += [lambda: kp.finetuning.load_classifier(broken, labels=["a", "b"])]
        loaders += [lambda: kp.BertPretrainer.from_pretrained(broken)]
    for load in loaders:
        with pytest.raises(kind, match=message.split(";")[0]):
            load()
    if name == "no tokenizer":
        check_checkpoint(broken, tokenizer=False)


def test_a_broken_tokenizer_is_refused(broken):
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=f"tokenizer of {broken} .*save it again"):
        evaluate_mlm(broken, None)


def test_weights_that_only_torch_reads_are_refused_by_all_without_torch(electra, broken, monkeypatch):
    for file in broken.iterdir():
        file.unlink()
    for part in ("", "generator"):
        (broken / part).mkdir(exist_ok=True)
        for file in (electra / part).glob("*.json"):
            (broken / part / file.name).write_bytes(file.read_bytes())
        (broken / part / "pytorch_model.bin").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for load in (
        lambda: check_checkpoint(broken),
        lambda: kp.ElectraPretrainer.from_pretrained(broken),
        lambda: kp.finetuning.load_classifier(broken, labels=["a", "b"]),
        lambda: evaluate_mlm(broken, None),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"pytorch_model.bin.*pip install 'keras_pretrain\[torch\]'"):
            load()


def rewrite(folder, file_format):
    """The weights of all parts, in another format."""
    for file in list(folder.rglob("model.safetensors")):
        weights = load_file(file)
        file.unlink()
        if "bin" in file_format:
            import torch

            weights = {name: torch.tensor(value) for name, value in weights.items()}
        names = sorted(weights)
        shards = [names[::2], names[1::2]] if file_format.startswith("sharded") else [names]
        kind = "pytorch_model{}.bin" if "bin" in file_format else "model{}.safetensors"
        weight_map = {}
        for number, chosen in enumerate(shards, start=1):
            shard = file.with_name(kind.format(f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""))
            part = {name: weights[name] for name in chosen}
            torch.save(part, shard) if "bin" in file_format else save_file(part, shard, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(chosen, shard.name)
        if len(shards) > 1:
            index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
            file.with_name(kind.format("") + ".index.json").write_text(json.dumps(index))


def make(kind, tokenizer):
    if kind == "electra":
        return kp.ElectraPretrainer(*(ElectraConfig(embedding_size=8, **WIDTHS) for _ in range(2)), tokenizer)
    model = kp.BertPretrainer(BertConfig(**WIDTHS))
    model.build_in_name_scope()
    return model


FORMATS = (
    "safetensors", "sharded safetensors", "bin", "sharded bin", "tensorflow", "sharded tf", "h5", "sharded h5",
)  # fmt: skip
PLACES = [(name, "disk") for name in FORMATS] + [("sharded safetensors", "hub"), ("h5", "hub"), ("sharded bin", "hub")]


@pytest.mark.parametrize(("file_format", "where"), PLACES)
@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_every_loader_reads_every_format(hub, kind, file_format, where, tokenizer, sentences, tmp_path, monkeypatch):
    if "bin" in file_format:
        pytest.importorskip("torch", reason="torch is not installed; pip install torch to read its pickles")
    folder = tmp_path / "model"
    model = make(kind, tokenizer)
    kp.save_checkpoint(model, tokenizer, folder)
    if file_format in ("tensorflow", "sharded tf", "h5", "sharded h5"):
        networks = {"": model} if kind == "bert" else {"": model.discriminator, "generator": model.generator}
        for part, network in networks.items():
            (folder / part / "model.safetensors").unlink()
            size = "10KB" if "sharded" in file_format else "1GB"
            network.save_pretrained(folder / part, safe_serialization="h5" not in file_format, max_shard_size=size)
    else:
        rewrite(folder, file_format)
    assert ("sharded" in file_format) == any(folder.glob("*.index.json"))
    name = folder
    if where == "hub":
        read_from(hub, monkeypatch)
        kp.push_to_hub(folder, "me/my_model", token=TOKEN)
        name, cache = "me/my_model", {"cache_dir": tmp_path / "cache"}
    else:
        cache = {}
    loaded = type(model).from_pretrained(name, **cache)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    classifier = kp.finetuning.load_classifier(name, labels=["a", "b"], **cache)
    encoder = model.bert if kind == "bert" else model.discriminator.electra
    np.testing.assert_allclose(
        classifier.encoder(IDS).last_hidden_state, encoder(IDS).last_hidden_state, rtol=1e-5, atol=1e-6
    )
    monkeypatch.setattr(
        "keras_pretrain.evaluation.mlm.build_features", lambda *_, **__: (_ for _ in ()).throw(KeyError)
    )
    with pytest.raises(KeyError):  # the model and its tokenizer are there
        evaluate_mlm(name, sentences.select(range(1)), **cache)


def test_a_classifier_of_pickled_weights_gets_other_labels(tokenizer, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed; pip install torch to read its pickles")
    model = kp.finetuning.BertClassifier(BertConfig(num_labels=3, **WIDTHS))
    kp.save_checkpoint(model, tokenizer, tmp_path)
    rewrite(tmp_path, "bin")
    assert kp.finetuning.load_classifier(tmp_path).classifier.kernel.shape == (16, 3)
    assert kp.finetuning.load_classifier(tmp_path, labels=["a", "b"]).classifier.kernel.shape == (16, 2)


def test_checking_imports_no_tensorflow(bert):
    script = (
        "import sys; from keras_pretrain.models.loading import check_checkpoint; check_checkpoint(sys.argv[1]); "
        "print([name for name in ('tensorflow', 'transformers', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bert)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
