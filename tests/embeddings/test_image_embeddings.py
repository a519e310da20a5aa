"""Embeddings of images."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from flair.data import Image
from flair.embeddings import (
    ConvTransformNetworkImageEmbeddings,
    IdentityImageEmbeddings,
    NetworkImageEmbeddings,
    PrecomputedImageEmbeddings,
)
from flair.embeddings.base import load_embeddings

NETWORK = {
    "dropout": [0.1, 0.1],
    "n_feats_out": [4, 8],
    "kernel_sizes": [(3, 3), (3, 3)],
    "strides": [(1, 1), (2, 2)],
    "groups": [1, 1],
    "pool_layers_map": {"1": (2, 2)},
    "adaptive_pool_func": "max",
    "output_size": (3, 2),
}


def test_precomputed():
    embedding = PrecomputedImageEmbeddings({"a": torch.ones(3)}, "table")
    images = embedding.embed([Image(imageURL="a"), Image(imageURL="b")])
    assert [image.embedding.tolist() for image in images] == [[1, 1, 1], [0, 0, 0]]
    twin = load_embeddings(embedding.save_embeddings())
    assert (twin.name, twin.embedding_length, twin.embedding_type) == ("table", 3, "image-level")
    with pytest.raises(ValueError, match="one length"):
        PrecomputedImageEmbeddings({"a": torch.ones(3), "b": torch.ones(2)}, "table")


def test_state_of_released_versions():
    old = {
        "training": True,
        "url2tensor_dict": {"a": torch.ones(3)},
        "name": "pre",
        "_PrecomputedImageEmbeddings__embedding_length": 3,
        "static_embeddings": True,
    }
    embedding = load_embeddings({**old, "__cls__": "PrecomputedImageEmbeddings"})
    assert embedding.embed(Image(imageURL="a"))[0].embedding.tolist() == [1, 1, 1]
    assert embedding.embedding_length == 3


def test_identity(tmp_path):
    picture = pytest.importorskip("PIL.Image").fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    picture.save(tmp_path / "picture.png")
    embedding = IdentityImageEmbeddings(lambda opened: torch.from_numpy(np.asarray(opened).copy()))
    (image,) = embedding.embed(Image(imageURL=str(tmp_path / "picture.png")))
    assert torch.equal(image.embedding, torch.arange(48, dtype=torch.uint8).view(4, 4, 3))
    with pytest.raises(ValueError, match="no address"):
        embedding.embed(Image(data=torch.ones(2)))


@pytest.mark.parametrize("places", [None, {"nonlinear": True, "n_hidden": 6}, {"nonlinear": False}])
@pytest.mark.parametrize("blocks", [None, 2])
def test_convolutions(places, blocks):
    blocks = blocks and {"n_blocks": blocks, "transformer_encoder_parms": {"nhead": 2, "dim_feedforward": 16}}
    embedding = ConvTransformNetworkImageEmbeddings(3, NETWORK, places, blocks).eval()
    assert embedding.embedding_length == (8 if blocks and places else 48)
    images = [Image(data=torch.randn(3, 9, 11)) for _ in range(2)]
    embedding.embed(images)
    assert images[0].embedding.shape == (embedding.embedding_length,)
    twin = load_embeddings(embedding.save_embeddings()).eval()
    assert torch.equal(twin.encode_documents(images), embedding.encode_documents(images))


@pytest.mark.parametrize("given", ["posnet_parms", "transformer_parms"])
def test_positions_and_transformer_come_together(given, caplog):
    options = {"posnet_parms": {"nonlinear": False}, "transformer_parms": {"n_blocks": 1}}
    options = {name: value if name == given else None for name, value in options.items()}
    logger = logging.getLogger("flair")
    logger.addHandler(caplog.handler)
    try:
        embedding = ConvTransformNetworkImageEmbeddings(3, NETWORK, **options)
    finally:
        logger.removeHandler(caplog.handler)
    assert not embedding.use_transformer
    assert f"got {given} but no" in caplog.text


def test_transformer_depends_on_places():
    blocks = {"n_blocks": 1, "transformer_encoder_parms": {"nhead": 2, "dim_feedforward": 16, "dropout": 0.0}}
    embedding = ConvTransformNetworkImageEmbeddings(3, {**NETWORK, "output_size": (1, 2)}, {"nonlinear": False}, blocks)
    embedding.eval()
    embedding.conv_features = torch.nn.Identity()
    seen = torch.randn(1, 8, 1, 2)
    assert not torch.allclose(embedding(seen), embedding(seen.flip(3)), atol=1e-4)
    torch.nn.init.zeros_(embedding.position_features[0].weight)
    torch.testing.assert_close(embedding(seen), embedding(seen.flip(3)))


def test_networks_need_torchvision():
    with pytest.raises(ValueError, match="resnet50 or mobilenet_v2"):
        NetworkImageEmbeddings("vgg")


def test_even_kernels_are_padded_by_half_their_size():
    embedding = ConvTransformNetworkImageEmbeddings(3, {**NETWORK, "kernel_sizes": [(4, 5), (3, 2)]}, None, None)
    layers = [layer for layer in embedding.conv_features if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.padding for layer in layers] == [(2, 2), (1, 1)]
