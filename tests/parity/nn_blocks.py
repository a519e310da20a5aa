"""Decoders, distances, dropouts, recurrent layers, losses, optimizers and schedules: ours against the released ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from drive import dictionary_of, main

DISTANCES = ["euclidean", "hyperbolic", "cosine", "logit_cosine", "dot_product"]
# Left out: "learn_only_embeddings", which in the released package is the same as "joint".
MODES = ["joint", "learn_only_map_and_prototypes", "learn_only_prototypes", "learn_only_embeddings_and_map"]
LABELS = ["apple", "pear", "plum", "fig"]
# Without a second hyphen: the released package drops what follows it.
SPAN_TAGS = ["O", "S-PER", "B-PER", "I-PER", "E-PER", "B-natural disaster"]


def prototypical() -> Iterator[tuple[str, Any]]:
    """Every distance, learning mode and further option, with a name."""
    from flair.nn import PrototypicalDecoder

    for distance in DISTANCES:
        yield f"{distance}", PrototypicalDecoder(4, 6, distance_function=distance)
        yield f"{distance}, mapped", PrototypicalDecoder(4, 6, prototype_size=3, distance_function=distance)
    for mode in MODES:
        yield (
            f"{mode}",
            PrototypicalDecoder(4, 6, prototype_size=3, use_radius=True, min_radius=2, learning_mode=mode),
        )
    yield "radius", PrototypicalDecoder(4, 6, use_radius=True)
    yield "unlabeled", PrototypicalDecoder(4, 6, unlabeled_idx=2, unlabeled_distance=1.5)
    yield "unlabeled at 0, radius", PrototypicalDecoder(4, 6, unlabeled_idx=0, unlabeled_distance=0.5, use_radius=True)


def ncm() -> Iterator[tuple[str, Any]]:
    """Every update method with each encoder, single and multi label."""
    from flair.nn import DeepNCMDecoder

    for method in ("online", "condensation", "decay"):
        for multi_label in (False, True):
            for options in ({}, {"encoding_dim": 3}, {"use_encoder": False}):
                name = f"{method}, {'multi' if multi_label else 'single'} label, {options or 'defaults'}"
                yield (
                    name,
                    DeepNCMDecoder(
                        dictionary_of(*LABELS), 6, mean_update_method=method, multi_label=multi_label, **options
                    ),
                )


def prepare(folder: Path) -> None:
    torch.manual_seed(11)
    torch.save(
        {
            "a": torch.randn(5, 6),
            "b": torch.randn(4, 6),
            "far": 40 * torch.randn(5, 6),
            "sequence": torch.randn(4, 7, 6),
            "upstream": torch.randn(5, 4),
            "classes": torch.tensor([0, 2, 2, 1, 0]),
            "many": torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0]]).float(),
            "metrics": (torch.rand(40) * torch.linspace(2, 1, 40)).tolist(),
        },
        folder / "inputs.pt",
    )
    weights = {}
    for kind, decoders in (("prototypical", prototypical()), ("ncm", ncm())):
        for name, decoder in decoders:
            state = decoder.state_dict()
            weights[f"{kind}: {name}"] = {key: torch.randn_like(value) * 0.7 for key, value in state.items()}
            if kind == "ncm":
                weights[f"{kind}: {name}"]["class_counts"] = torch.zeros(len(LABELS))
    torch.save(weights, folder / "weights.pt")


def work(folder: Path) -> dict[str, Any]:
    inputs, weights = torch.load(folder / "inputs.pt"), torch.load(folder / "weights.pt")
    results: dict[str, Any] = {}
    for part in (distances, dropouts, recurrent_layers, prototypical_decoders, ncm_decoders, verbalizer, losses):
        results.update(part(inputs, weights))
    results.update(optimizers(inputs))
    results.update(schedules(inputs))
    results.update(splitters())
    return results


def gradients(module: torch.nn.Module) -> dict[str, Any]:
    """Of each parameter; a zero gradient is one that nothing flows to, however it was cut off."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in module.named_parameters()
    }


def distances(inputs: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    from flair.nn import distance
    from flair.nn.distance import cosine, hyperbolic

    results: dict[str, Any] = {}
    for name in ("EuclideanDistance", "HyperbolicDistance", "CosineDistance", "LogitCosineDistance",
                 "NegativeScaledDotProduct"):  # fmt: skip
        for first in ("a", "far"):
            one, other = inputs[first].clone().requires_grad_(), inputs["b"].clone().requires_grad_()
            values = getattr(distance, name)()(one, other)
            (values * inputs["upstream"]).sum().backward()
            results[f"distance {name}, {first}"] = [values.detach(), one.grad, other.grad]
    for name in ("EuclideanMean", "HyperbolicMean"):
        results[f"mean {name}"] = getattr(distance, name)()(inputs["a"])
    for normalize in (False, True):
        results[f"dot_product, normalize={normalize}"] = cosine.dot_product(inputs["a"], inputs["b"], normalize)
    x, y = hyperbolic.project(inputs["a"]), hyperbolic.project(inputs["a"].flip(0) * 0.5)
    results["hyperbolic project"] = x
    for name in ("mdot", "dist", "log_map", "exp_map", "loss"):
        results[f"hyperbolic {name}"] = getattr(hyperbolic, name)(x[:4], y[:4])
    results["hyperbolic norm"] = hyperbolic.norm(x + y)
    results["hyperbolic arccosh"] = hyperbolic.arccosh(torch.tensor([0.3, 1.0, 1.00001, 1.5, 40.0]))
    results["hyperbolic EPSILON"] = hyperbolic.EPSILON
    return results


def dropouts(inputs: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    from flair.nn import LockedDropout, WordDropout

    results: dict[str, Any] = {}
    layers = [LockedDropout(rate, batch_first=first) for rate in (0.0, 0.1, 0.5, 0.9) for first in (True, False)]
    layers += [WordDropout(rate) for rate in (0.0, 0.05, 0.5, 0.9)]
    layers += [LockedDropout(0.3, inplace=True), WordDropout(0.3, inplace=True)]
    for number, layer in enumerate(layers):
        torch.manual_seed(number)
        results[f"dropout {number} {layer}"] = [layer(inputs["sequence"]), layer.eval()(inputs["sequence"])]
        results[f"dropout {number} {layer}, next random number"] = float(torch.rand(()))
    return results


def recurrent_layers(inputs: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    from flair.nn.recurrent import create_recurrent_layer

    results: dict[str, Any] = {}
    for kind in ("lstm", "LSTM", "gru", "GRU"):
        for layers, options in ((1, {}), (2, {"bidirectional": True, "batch_first": True}), (2, {"dropout": 0.5})):
            torch.manual_seed(3)
            layer, states = create_recurrent_layer(kind, 6, 5, layers, **options)
            results[f"recurrent {kind}, {layers} layers, {options}"] = [
                states,
                layer.dropout,
                layer.eval()(inputs["sequence"])[0].detach(),
            ]
    return results


def prototypical_decoders(inputs: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, decoder in prototypical():
        results[f"prototypical {name}: names"] = list(decoder.state_dict())
        decoder.load_state_dict(weights[f"prototypical: {name}"])
        embedded = inputs["a"].clone().requires_grad_()
        scores = decoder(embedded)
        (scores * inputs["upstream"]).sum().backward()
        results[f"prototypical {name}: scores"] = scores.detach()
        results[f"prototypical {name}: gradient of weights"] = gradients(decoder)
        input_gradient = torch.zeros_like(embedded) if embedded.grad is None else embedded.grad
        results[f"prototypical {name}: gradient of input"] = input_gradient
    return results


def ncm_decoders(inputs: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, decoder in ncm():
        results[f"ncm {name}: names"] = list(decoder.state_dict())
        decoder.load_state_dict(weights[f"ncm: {name}"])
        labels = inputs["many"] if decoder.multi_label else inputs["classes"]
        steps: list[Any] = []
        for batch, update in ((inputs["a"], True), (inputs["a"] * 2, False), (inputs["a"] - 1, True)):
            decoder.zero_grad()
            embedded = batch.clone().requires_grad_()
            scores = decoder(embedded, labels)
            (scores * inputs["upstream"]).sum().backward()
            steps.append([scores.detach(), embedded.grad, gradients(decoder)])
            if update:
                decoder.update_prototypes()
            steps.append([decoder.class_prototypes.detach().clone(), decoder.class_counts.detach().clone()])
        results[f"ncm {name}: training"] = steps
        decoder.eval()
        # Without labels: the released decoder would add what it is evaluated on to its prototypes.
        results[f"ncm {name}: evaluation"] = decoder(inputs["a"]).detach()
        decoder.update_prototypes()
        results[f"ncm {name}: prototypes"] = {label: decoder.get_prototype(label).detach() for label in LABELS}
        closest = decoder.get_closest_prototypes(decoder.encoder(inputs["a"])[0].detach(), top_k=3)
        results[f"ncm {name}: closest labels"] = [label for label, _ in closest]
    return results


def verbalizer(inputs: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    from flair.nn import LabelVerbalizerDecoder

    spans = LabelVerbalizerDecoder.verbalize_labels(dictionary_of(*SPAN_TAGS, spans=True))
    plain = LabelVerbalizerDecoder.verbalize_labels(dictionary_of(*SPAN_TAGS))
    return {
        "verbalized span tags": [[token.text for token in sentence] for sentence in spans],
        "verbalized labels": [[token.text for token in sentence] for sentence in plain],
    }


def losses(inputs: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    from flair.nn.loss import SigmoidLoss

    results: dict[str, Any] = {}
    for scale in (1.0, 8.0):  # the released class has arguments for weights and reduction, which it ignores
        results[f"sigmoid loss, {scale}"] = SigmoidLoss()(inputs["upstream"] * scale, inputs["classes"])
    return results


def optimizers(inputs: dict[str, Any]) -> dict[str, Any]:
    from flair.optim import SGDW

    results: dict[str, Any] = {}
    for options in (
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.01},
        {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    ):
        parameter = torch.nn.Parameter(inputs["b"].clone())
        unused = torch.nn.Parameter(torch.ones(2))
        optimizer = SGDW([parameter, unused], lr=0.1, **options)
        for _ in range(4):
            optimizer.zero_grad()
            loss = (parameter**2).sum() + parameter.sin().sum()
            loss.backward()
            optimizer.step()
        results[f"SGDW {options}"] = [parameter.detach(), unused.detach()]
    return results


def schedules(inputs: dict[str, Any]) -> dict[str, Any]:
    from flair.optim import ExpAnnealLR, LinearSchedulerWithWarmup, ReduceLRWDOnPlateau

    def optimizer() -> torch.optim.Optimizer:
        groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.2, 0.05)]
        return torch.optim.SGD(groups, lr=0.1, weight_decay=0.01)

    def record(scheduler: Any, used: torch.optim.Optimizer, steps: int, metrics: Any = None) -> list[Any]:
        rows = [[group["lr"] for group in used.param_groups]]
        for number in range(steps):
            used.step()
            scheduler.step() if metrics is None else scheduler.step(metrics[number])
            rows.append([[group["lr"], group["weight_decay"]] for group in used.param_groups])
        return rows

    results: dict[str, Any] = {}
    for iterations in (1, 7, 30):
        used = optimizer()
        results[f"ExpAnnealLR, {iterations}"] = record(ExpAnnealLR(used, 10.0, iterations), used, iterations + 2)
    for steps, warm_up in ((10, 0), (10, 3), (10, 10), (1, 1), (5, 9)):
        used = optimizer()
        results[f"LinearSchedulerWithWarmup, {steps}, {warm_up}"] = record(
            LinearSchedulerWithWarmup(used, steps, warm_up), used, steps + 3
        )
    if not hasattr(ReduceLRWDOnPlateau, "is_better"):
        # The released class cannot step: it uses two names that torch has since dropped. With them, its rule is driven.
        ReduceLRWDOnPlateau.is_better = getattr(ReduceLRWDOnPlateau, "_is_better", None)
        ReduceLRWDOnPlateau.verbose = False
    for mode in ("min", "max"):
        for options in ({}, {"patience": 2}, {"patience": 1, "cooldown": 3}, {"patience": 1, "threshold": 0.1},
                        {"patience": 1, "threshold": 0.1, "threshold_mode": "abs"}, {"patience": 0, "min_lr": 0.01},
                        {"patience": 0, "factor": 0.5, "eps": 0.02}):  # fmt: skip
            used = optimizer()
            scheduler = ReduceLRWDOnPlateau(used, mode=mode, **options)
            rows = record(scheduler, used, 40, inputs["metrics"])
            results[f"ReduceLRWDOnPlateau, {mode}, {options}"] = [rows, scheduler.num_bad_epochs, scheduler.best]
    return results


# No tag follows another: the released splitters then forget its length in all later offsets.
TEXT = """ The first sentence, e.g. this one, ends here.  Dr. Smith didn't agree! "Why not?" he asked…
A second paragraph; it is short.\tTabs too.
 the end """


def splitters() -> dict[str, Any]:
    from flair.splitter import NewlineSentenceSplitter, NoSentenceSplitter, SegtokSentenceSplitter, TagSentenceSplitter

    results: dict[str, Any] = {}
    for splitter in (
        SegtokSentenceSplitter(),
        NoSentenceSplitter(),
        NewlineSentenceSplitter(),
        TagSentenceSplitter("th"),
        TagSentenceSplitter(". "),
    ):
        for text in (TEXT, "One.", "Ending in th", "thth"):
            results[f"{splitter.name} {text[:8]!r}"] = [
                [
                    sentence.start_position,
                    [(token.text, token.start_position, token.end_position) for token in sentence],
                    sentence.next_sentence() is not None,
                    sentence.previous_sentence() is not None,
                ]
                for sentence in splitter.split(text)
            ]
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work, tolerance=1e-6))
