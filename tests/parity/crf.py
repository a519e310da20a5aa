"""CRF scores, loss and Viterbi decoding: this package against the released one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from drive import main


def prepare(folder: Path) -> None:
    torch.manual_seed(7)
    cases = []
    for labels, batch, steps in ((1, 1, 1), (2, 5, 9), (4, 32, 41), (18, 8, 25)):
        tags = 1 + 4 * labels + 2
        lengths = torch.randint(1, steps + 1, (batch,)).sort(descending=True).values
        lengths[0] = steps
        gold = torch.randint(0, tags - 2, (int(lengths.sum()),))
        cases.append(
            (labels, torch.randn(batch, steps, tags).double() * 2, lengths, torch.randn(tags, tags).double(), gold)
        )
    torch.save(cases, folder / "cases.pt")


def work(folder: Path) -> dict[str, Any]:
    from flair.data import Dictionary, Sentence
    from flair.models.sequence_tagger_utils.crf import CRF, START_TAG, STOP_TAG
    from flair.models.sequence_tagger_utils.viterbi import ViterbiDecoder, ViterbiLoss

    results: dict[str, Any] = {}
    for labels, emissions, lengths, transitions, gold in torch.load(folder / "cases.pt"):
        dictionary = Dictionary(add_unk=False)
        for item in ["O", *(f"{prefix}-{n}" for n in range(labels) for prefix in "SBEI")]:
            dictionary.add_item(item)
        dictionary.set_start_stop_tags()
        crf = CRF(dictionary, len(dictionary), init_from_state_dict=False)
        crf.double()  # at the scores of long sentences float32 rounds gradients in the fifth digit, in both packages
        with torch.no_grad():
            kept = crf.transitions == -10000
            crf.transitions.copy_(torch.where(kept, crf.transitions, transitions))
        emissions.requires_grad_(True)
        features = (crf(emissions), lengths, crf.transitions)
        loss = ViterbiLoss(dictionary)(features, gold)
        loss.backward()
        sentences = [Sentence(["word"] * int(length)) for length in lengths]
        with torch.no_grad():
            paths, scores = ViterbiDecoder(dictionary).decode(features, True, sentences)
        key = f"{labels} labels, {tuple(emissions.shape)}"
        results[f"{key}: added scores"] = features[0].detach()
        results[f"{key}: loss / token"] = loss.detach() / lengths.sum()
        results[f"{key}: gradient of emissions"] = emissions.grad
        results[f"{key}: gradient of transitions"] = crf.transitions.grad
        results[f"{key}: tags"] = [[tag for tag, _ in path] for path in paths]
        results[f"{key}: scores"] = [[float(score) for _, score in path] for path in paths]
        results[f"{key}: all scores"] = [
            [(label.value, float(label.score)) for label in row] for rows in scores for row in rows
        ]
        results[f"{key}: start, stop"] = [dictionary.get_idx_for_item(tag) for tag in (START_TAG, STOP_TAG)]
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
