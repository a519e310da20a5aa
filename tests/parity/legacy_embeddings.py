"""Document embeddings of early versions and convolutions over pictures: this package against the released one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from drive import main

TEXTS = ["the cat sat on the mat", "a dog", "cats and dogs sat on the cat", "mat"]
WORDS = sorted({word for text in TEXTS for word in text.split()} - {"dogs"})
SIZES = (5, 3)
LSTM: dict[str, dict[str, Any]] = {
    "plain": {"hidden_size": 4},
    "bidirectional": {"hidden_size": 4, "bidirectional": True},
    "two layers": {"hidden_size": 4, "rnn_layers": 2, "bidirectional": True},
    "reprojected": {"hidden_size": 4, "reproject_words_dimension": 6},
    "not reprojected": {"hidden_size": 4, "reproject_words": False},
    "locked dropout": {"hidden_size": 4, "locked_dropout": 0.3, "word_dropout": 0.2},
}
NETWORK = {
    "dropout": [0.1, 0.0],
    "n_feats_out": [4, 8],
    "kernel_sizes": [(3, 3), (4, 5)],
    "strides": [(1, 1), (2, 2)],
    "groups": [1, 2],
    "pool_layers_map": {"1": 2},
    "adaptive_pool_func": "max",
    "output_size": (3, 2),
}
BLOCKS = {"n_blocks": 2, "transformer_encoder_parms": {"nhead": 2, "dim_feedforward": 16}}
PLACES = {"linear": {"nonlinear": False}, "nonlinear": {"nonlinear": True, "n_hidden": 6}}
NETWORKS: dict[str, tuple[Any, Any, Any]] = {
    "convolutions": (NETWORK, None, None),
    "average": ({**NETWORK, "adaptive_pool_func": "avg"}, None, None),
    "places alone": (NETWORK, PLACES["linear"], None),
    "transformer alone": (NETWORK, None, BLOCKS),
    "linear places": (NETWORK, PLACES["linear"], BLOCKS),
    "nonlinear places": (NETWORK, PLACES["nonlinear"], BLOCKS),
    "wide": ({**NETWORK, "output_size": (2, 5)}, PLACES["linear"], BLOCKS),
}


def words() -> list[Any]:
    from flair.embeddings import WordEmbeddings

    made: list[Any] = []
    for number, size in enumerate(SIZES):
        vocabulary = {word: index for index, word in enumerate(WORDS)}
        embedding = WordEmbeddings(None, vocab=vocabulary, embedding_length=size, name=f"w{number}")
        torch.manual_seed(number)
        weight = embedding.embedding.weight.data
        weight[:-1] = torch.randn(weight[:-1].shape)  # the last row is that of unknown words
        made.append(embedding)
    return made


def networks() -> dict[str, Any]:
    from flair.embeddings import ConvTransformNetworkImageEmbeddings

    return {name: ConvTransformNetworkImageEmbeddings(3, *options) for name, options in NETWORKS.items()}


def lstms() -> dict[str, Any]:
    from flair.embeddings.legacy import DocumentLSTMEmbeddings

    return {name: DocumentLSTMEmbeddings(words(), **options) for name, options in LSTM.items()}


def prepare(folder: Path) -> None:
    torch.manual_seed(9)
    states: dict[str, Any] = {"pictures": torch.randn(3, 3, 17, 23)}
    for name, embedding in lstms().items():
        state = embedding.state_dict()
        states[name] = {key: value for key, value in state.items() if key.startswith(("rnn.", "word_reprojection_map"))}
    saved = {}
    for name, embedding in networks().items():
        with torch.no_grad():
            for parameter in embedding.parameters():
                parameter.normal_(0, 0.4)
        states[name] = embedding.state_dict()
        saved[name] = embedding.save_embeddings()
    torch.save(states, folder / "states.pt")
    torch.save(saved, folder / "saved.pt")


def work(folder: Path) -> dict[str, Any]:
    from flair.data import Image, Sentence
    from flair.embeddings.base import load_embeddings
    from flair.embeddings.legacy import DocumentMeanEmbeddings

    states = torch.load(folder / "states.pt", weights_only=False)
    results: dict[str, Any] = {}
    documents = {"DocumentMeanEmbeddings": DocumentMeanEmbeddings(words())}
    for name, embedding in lstms().items():
        missing, unknown = embedding.load_state_dict(states[name], strict=False)
        left = [key for key in missing if not key.startswith("embeddings.")]
        if left or unknown:
            raise KeyError(f"{name}: missing {left}, unknown {unknown}")
        documents[f"DocumentLSTMEmbeddings, {name}"] = embedding
    for name, embedding in documents.items():
        embedding.eval()
        sentences = [Sentence(text) for text in TEXTS]
        embedding.embed(list(sentences))  # the released package sorts the list it is given
        results[name] = [embedding.embedding_length, embedding.name]
        results[f"{name}: vectors"] = [sentence.embedding.detach() for sentence in sentences]
    saved = torch.load(folder / "saved.pt", weights_only=False)
    for name, network in networks().items():
        network.load_state_dict(states[name])
        for origin, embedding in (("weights", network), ("released file", load_embeddings(saved[name]))):
            embedding.eval()
            images = [Image(data=picture) for picture in states["pictures"]]
            with torch.no_grad():
                embedding.embed(images)
            results[f"ConvTransform, {name}, {origin}: length"] = embedding.embedding_length
            results[f"ConvTransform, {name}, {origin}: vectors"] = [image.embedding for image in images]
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
