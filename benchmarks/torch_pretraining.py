"""Pretrain 🤗's `BertForPreTraining` in torch with everything that users can switch on.

These are bfloat16 autocast, fused AdamW, new masks in each epoch, batches of examples of similar length (padded to the
longest one), and a learning rate that decays to 0 within the given time. `"gathered"` adds something that users would
have to write themselves: logits only for the masked tokens.

    python benchmarks/torch_pretraining.py FOLDER '{"hidden": 256, "layers": 4, ...}'

reads the arrays that `time_to_loss` wrote to FOLDER, and prints one JSON line. Needs torch and transformers, and no
TensorFlow.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertForPreTraining

IGNORED = -100
_GROUPED = 50  # the examples of this many batches are sorted by length, as in `Trainer` with `group_by_length`


def mask(ids: torch.Tensor, special: torch.Tensor, vocabulary: int, mask_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask as 🤗's collator does: choose 15% of the tokens; 80% of these become `[MASK]`, 10% a random token."""
    chosen = (torch.rand(ids.shape) < 0.15) & ~torch.isin(ids, special)
    labels = ids.masked_fill(~chosen, IGNORED)
    fate = torch.rand(ids.shape)
    ids = ids.masked_fill(chosen & (fate < 0.8), mask_id)
    is_random = chosen & (fate >= 0.9)
    return torch.where(is_random, torch.randint_like(ids, vocabulary), ids), labels


def main(folder: str, settings: str):
    options = json.loads(settings)
    torch.manual_seed(options["seed"])
    read = {name: np.load(Path(folder) / f"{name}.npy") for name in ("ids", "types", "lengths", "next")}
    ends = np.cumsum(read["lengths"])
    ids, types = (
        [torch.from_numpy(part.astype(np.int64)) for part in np.split(read[name], ends[:-1])]
        for name in ("ids", "types")
    )
    following = torch.from_numpy(read["next"].astype(np.int64))
    special = torch.tensor(options["special_ids"])
    config = BertConfig(
        vocab_size=options["vocabulary"], hidden_size=options["hidden"], num_hidden_layers=options["layers"],
        num_attention_heads=options["heads"], intermediate_size=4 * options["hidden"], hidden_act="gelu_pytorch_tanh",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForPreTraining(config).train()
    decayed = [weight for name, weight in model.named_parameters() if "LayerNorm" not in name and "bias" not in name]
    known = set(map(id, decayed))
    groups = [
        {"params": decayed, "weight_decay": 0.01},
        {"params": [each for each in model.parameters() if id(each) not in known], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options["rate"], fused=True)
    generator = torch.Generator().manual_seed(options["seed"])
    begun, steps, passed = time.perf_counter(), 0, 0.0
    while passed < 1:
        for rows in shuffled(read["lengths"], options["batch_size"], generator):
            passed = (time.perf_counter() - begun) / options["seconds"]
            if passed >= 1 or steps == options["max_steps"]:
                passed = 1
                break
            for group in optimizer.param_groups:
                group["lr"] = options["rate"] * min(passed / 0.1, (1 - passed) / 0.9)
            batch = pad_sequence([ids[row] for row in rows], batch_first=True)
            batch, labels = mask(batch, special, options["vocabulary"], options["mask_id"])
            inputs = {
                "input_ids": batch,
                "token_type_ids": pad_sequence([types[row] for row in rows], batch_first=True),
                "attention_mask": pad_sequence([torch.ones_like(ids[row]) for row in rows], batch_first=True),
                "labels": labels,
                "next_sentence_label": following[rows],
            }
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=options["precision"] == "bfloat16"):
                loss = gathered_loss(model, inputs) if options["gathered"] else model(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            steps += 1
    seconds = time.perf_counter() - begun
    print(json.dumps({"steps": steps, "seconds": seconds, "mlm_loss": validate(model, folder, options["batch_size"])}))


def shuffled(lengths: np.ndarray, batch_size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return the indices of the examples in each batch of an epoch."""
    chunks = torch.randperm(len(lengths), generator=generator).split(_GROUPED * batch_size)
    sizes = torch.from_numpy(lengths)
    batches = [rows for chunk in chunks for rows in chunk[sizes[chunk].argsort(descending=True)].split(batch_size)]
    return [batches[number] for number in torch.randperm(len(batches), generator=generator)]


def gathered_loss(model: BertForPreTraining, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute the loss of `BertForPreTraining`, with logits over the vocabulary only for the masked tokens."""
    inputs, labels, following = dict(inputs), inputs["labels"], inputs["next_sentence_label"]
    del inputs["labels"], inputs["next_sentence_label"]
    hidden, pooled = model.bert(**inputs)[:2]
    chosen = labels != IGNORED
    logits, next_logits = model.cls.predictions(hidden[chosen]), model.cls.seq_relationship(pooled)
    losses = torch.nn.functional.cross_entropy(logits, labels[chosen])
    return losses + torch.nn.functional.cross_entropy(next_logits, following)


@torch.no_grad()
def validate(model: BertForPreTraining, folder: str, batch_size: int) -> float:
    """Compute the mean MLM loss of the masked validation examples in FOLDER, in float32."""
    model.eval()
    names = ("input_ids", "token_type_ids", "attention_mask", "labels")
    rows = {name: torch.from_numpy(np.load(Path(folder) / f"val_{name}.npy").astype(np.int64)) for name in names}
    labels, total, count = rows.pop("labels"), 0.0, 0
    for start in range(0, len(labels), batch_size):
        part = slice(start, start + batch_size)
        chosen = labels[part] != IGNORED
        logits = model(**{name: value[part] for name, value in rows.items()}).prediction_logits[chosen]
        total += torch.nn.functional.cross_entropy(logits, labels[part][chosen], reduction="sum").item()
        count += int(chosen.sum())
    return total / count


if __name__ == "__main__":
    main(*sys.argv[1:])
