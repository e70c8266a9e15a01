"""Removes private values (paths and names of local files) from `metrics.json` and config files before an upload."""

import json
from pathlib import Path

_WORDS = ("size", "objective", "schedule")  # settings of older versions whose values are strings but not paths
_NO_SETTINGS = ("num_proc", "checkpoint_every")
_PATH_KEYS = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file")


def public_metrics(metrics: dict) -> dict:
    """Return the content of a `metrics.json` without private values.

    Args:
      metrics: the content of `metrics.json`. Older versions recorded all arguments of the command line ("arguments"),
        paths among them.

    Returns:
      The content in the current form, with "settings" and "corpus". If it already has this form, it is unchanged.
    """
    arguments = metrics.get("arguments")
    if not isinstance(arguments, dict):
        return metrics
    public = {
        key: value
        for key, value in metrics.items()
        if value is None or _is_number(value) or key in ("seconds", "versions")
    }
    public["settings"] = {
        key: value
        for key, value in arguments.items()
        if key in _WORDS or (_is_number(value) and key not in _NO_SETTINGS)
    }
    is_sample = "corpus" in arguments and not arguments["corpus"] and not arguments.get("prepared")
    counts = {key: value for key, value in (metrics.get("corpus") or {}).items() if _is_number(value)}
    if is_sample or counts:
        language = arguments.get("language")
        public["corpus"] = {
            "name": "the sample inside keras_pretrain" if is_sample else None,
            "on_hub": False,
            "language": language if language in ("ko", "en") else None,
        } | counts
    return public


def remove_paths(folder: Path) -> list[str]:
    """Remove paths of this machine from the JSON files of a folder and its sub-folders.

    Files are replaced instead of changed, because they may be links to files elsewhere.

    Returns:
      The files that contained such paths, relative to the folder.
    """
    changed = []
    for file in sorted(folder.rglob("*.json")):
        if file.name not in ("config.json", "tokenizer_config.json", "metrics.json"):
            continue
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            is_metrics = file.name == "metrics.json"
            after = public_metrics(before) if is_metrics else {k: v for k, v in before.items() if k not in _PATH_KEYS}
        except (ValueError, AttributeError):  # not a file of ours
            continue
        if after != before:
            file.unlink()
            file.write_text(json.dumps(after, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            changed.append(file.relative_to(folder).as_posix())
    return changed


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
