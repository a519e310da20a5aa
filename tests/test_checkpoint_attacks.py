"""Mutated and malicious files and folders of whole models, loaded in processes that watch what they do.

``FLAIR_TEST_HOSTILE=2000`` makes as many files; the default is few. What is in them: ``attacks.py``, ``hostile.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flair.checkpoint import CheckpointError, UnsafeCheckpointError, load_state, save_state
from flair.nn import Model
from tests.attacks import ATTACKS
from tests.embeddings.tiny_transformers import make_model_folder
from tests.hostile import FAMILIES, evil, lay_out_payload, outcome_of
from tests.peft.adapted import build

FILES = int(os.environ.get("FLAIR_TEST_HOSTILE", "41"))
A_PROCESS = 400
"""Files that one process loads."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="watches by means of POSIX signals")


def test_hostile_files_run_nothing_and_end_in_our_errors(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FLAIR_DEVICE": "cpu"}
    ended: dict[str, int] = {"loaded": 0, "refused": 0}
    wrong: list[str] = []
    for seed, start in enumerate(range(0, FILES, A_PROCESS)):
        count = min(A_PROCESS, FILES - start)
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.hostile",
            str(count),
            str(seed),
            str(tmp_path / str(seed)),
        ]
        run = subprocess.run(
            command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=False
        )
        lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
        assert lines, f"the process died (status {run.returncode}): {run.stderr[-3000:]}"
        found = json.loads(lines[0].removeprefix("RESULT "))
        wrong += found["wrong"]
        assert not found["left"], "temporary files are removed"
        assert set(found["outcomes"]) == {name for name, _ in FAMILIES}
        for outcomes in found["outcomes"].values():
            for result, times in outcomes.items():
                ended[result] = ended.get(result, 0) + times
    assert not wrong, "\n".join(wrong)
    assert ended["loaded"] + ended["refused"] == FILES
    assert ended["refused"] > FILES / 2


def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    """Otherwise the test above could not fail. In a process of its own: an audit hook stays for good."""
    script = tmp_path / "evil.py"
    script.write_text(evil(tmp_path / "inside"))
    code = f"""
import os, socket, subprocess, sys
from pathlib import Path
from tests.hostile import Watch
watch = Watch(Path({str(tmp_path)!r}))
def seen(action):
    watch.on = True
    try: action()
    except Exception: pass
    watch.on = False
    found = list(watch.seen); watch.seen.clear()
    return bool(found)
actions = [
    lambda: os.system("true"),
    lambda: subprocess.run(["true"]),
    lambda: exec(compile(Path({str(script)!r}).read_text(), {str(script)!r}, "exec")),
    lambda: (sys.path.insert(0, {str(tmp_path)!r}), __import__("evil")),
    lambda: __import__("antigravity"),
    lambda: socket.create_connection(("127.0.0.1", 9), 0.1),
    lambda: open(os.path.expanduser("~/.flair-test-of-the-watch"), "a").close(),
]
print([seen(action) for action in actions], seen(lambda: open({str(tmp_path / "fine")!r}, "w").close()))
os.remove(os.path.expanduser("~/.flair-test-of-the-watch"))
"""
    environment = {**os.environ, "BROWSER": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines()[-1:] == [f"{[True] * 7} False"], run.stderr


def test_every_attack_by_itself(tmp_path: Path) -> None:
    """Each of the list: refused, or harmless. Both are allowed; running code is not."""
    folder = make_model_folder(tmp_path / "bert", "bert", max_length=32)
    payload = tmp_path / "payload"
    payload.mkdir()
    lay_out_payload(payload, tmp_path)
    build("classifier", folder, None).save(tmp_path / "good.pt")
    refused = 0
    for number, attack in enumerate(ATTACKS):
        state = load_state(tmp_path / "good.pt")
        del state["origin"]
        attack(state, payload)
        target = tmp_path / f"bad{number}{'' if number % 2 else '.pt'}"
        save_state(state, target)
        result, reason = outcome_of(target)
        assert result in ("loaded", "refused"), f"attack {number}: {reason}"
        refused += result == "refused"
        assert not (tmp_path / "executed").exists(), f"attack {number} ran code"
    assert refused > len(ATTACKS) / 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"attn_implementation": "somebody/kernel"}, r"code of the repository 'somebody/kernel'"),
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers = 1000000000; the limit is 4096"),
        ({"vocab_size": 10**12}, r"vocab_size = 1000000000000"),
        ({"model_type": "unheard-of", "auto_map": {"AutoModel": "somebody/code--m.M"}}, r"cannot be built here"),
    ],
)
def test_what_the_configuration_may_not_ask_for(tmp_path: Path, change: dict, says: str) -> None:
    folder = make_model_folder(tmp_path / "bert", "bert", max_length=32)
    build("classifier", folder, None).save(tmp_path / "good.pt")
    state = load_state(tmp_path / "good.pt")
    state["document_embeddings"]["config_state_dict"].update(change)
    save_state(state, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=says) as caught:
        Model.load(tmp_path / "bad.pt")
    assert isinstance(caught.value, UnsafeCheckpointError) == ("attn_implementation" in change)
