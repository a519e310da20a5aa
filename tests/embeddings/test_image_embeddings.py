"""Embeddings of images."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

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


def test_unknown_networks():
    with pytest.raises(ValueError, match="resnet50 or mobilenet_v2"):
        NetworkImageEmbeddings("vgg")


class Flatten(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3), keepdim=True)


def torchvision_stand_in(monkeypatch):
    """The names that are used of torchvision, which does not install beside every build of torch; tiny networks."""
    asked = []

    def network(weights):
        asked.append(weights)
        if weights is not None:
            raise OSError("no connection")
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), Flatten(), torch.nn.Linear(5, 2))

    class Compose:
        def __init__(self, steps):
            self.transforms = steps

        def __call__(self, picture):
            for step in self.transforms:
                picture = step(picture)
            return picture

    def normalise(mean, deviation):
        def apply(picture):
            return (picture - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)

        return apply

    package, models, transforms = (ModuleType(f"torchvision{part}") for part in ("", ".models", ".transforms"))
    models.resnet50 = models.mobilenet_v2 = network
    transforms.Compose, transforms.Normalize = Compose, normalise
    package.models, package.transforms = models, transforms
    for module in (package, models, transforms):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked, network


def picture(seed=0, size=(9, 12)):
    return np.random.RandomState(seed).randint(0, 255, (*size, 3)).astype("uint8")


def test_networks_look_at_the_data_of_images(monkeypatch, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    _, network = torchvision_stand_in(monkeypatch)
    embedding = NetworkImageEmbeddings("resnet50", pretrained=False)
    assert (embedding.name, embedding.embedding_length, embedding.embedding_type) == ("resnet50", 2048, "image-level")
    pil.fromarray(picture()).save(tmp_path / "picture.png")
    tensor = torch.from_numpy(picture()).permute(2, 0, 1)
    expected = network(None)[:-1](tensor[None].float() / 255).flatten()
    forms = [pil.fromarray(picture()), picture(), tensor, tensor / 255]
    images = [*(Image(data=form) for form in forms), Image(imageURL=str(tmp_path / "picture.png"))]
    for image in embedding.embed(images):
        torch.testing.assert_close(image.embedding, expected)
    unequal = [Image(data=picture()), Image(data=picture(1, (20, 15))), Image(data=pil.fromarray(picture()[..., 0]))]
    vectors = embedding.encode_documents(unequal)
    torch.testing.assert_close(vectors[0], expected)
    assert vectors.shape == (3, 5)
    assert NetworkImageEmbeddings("resnet50", pretrained=False).to(torch.bfloat16).encode_documents(images).dtype == (
        torch.bfloat16
    )
    with pytest.raises(ValueError, match=r"shape \(9, 12\).*\[height, width, 3\]"):
        embedding.embed(Image(data=picture()[..., 0]))
    with pytest.raises(ValueError, match="no address"):
        embedding.embed(Image())


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_networks_round_trip(monkeypatch, name):
    """Also the normalised colours of pretrained networks, whose weights are in the file and not asked for again."""
    asked, network = torchvision_stand_in(monkeypatch)
    images = [Image(data=picture())]
    plain = NetworkImageEmbeddings(name, pretrained=False, transforms=[np.flipud])
    monkeypatch.setattr(sys.modules["torchvision.models"], name, lambda weights: asked.append(weights) or network(None))
    pretrained = NetworkImageEmbeddings(name)
    assert "IMAGENET1K_V1" in asked
    asked.clear()
    assert not torch.allclose(plain.encode_documents(images), pretrained.encode_documents(images))
    for embedding in (plain, pretrained):
        twin = load_embeddings(embedding.save_embeddings())
        assert torch.equal(twin.encode_documents(images), embedding.encode_documents(images))
    assert not any(asked)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    torchvision_stand_in(monkeypatch)
    with pytest.raises(OSError, match=r"weights of resnet50.*checkpoints.*no connection.*pretrained=False"):
        NetworkImageEmbeddings("resnet50")


def test_addresses_without_picture(tmp_path):
    pytest.importorskip("PIL.Image").fromarray(picture(size=(200, 200))).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no picture")
    embedding = IdentityImageEmbeddings(lambda opened: torch.from_numpy(np.asarray(opened).copy()))
    for name in ("cut.png", "text.png"):
        with pytest.raises(ValueError, match=rf"{name} holds no picture that PIL can read"):
            embedding.embed(Image(imageURL=str(tmp_path / name)))
    with pytest.raises(FileNotFoundError, match=r"gone\.png is no file on this machine\. Check"):
        embedding.embed(Image(imageURL=str(tmp_path / "gone.png")))
    with pytest.raises(FileNotFoundError, match=r"Download it"):
        embedding.embed(Image(imageURL="http://127.0.0.1/x.png"))


def test_images_of_every_kind_have_a_description():
    pil = pytest.importorskip("PIL.Image")
    assert str(Image(data=pil.fromarray(picture()), imageURL="u")) == "Image: (12, 9) u"
    assert str(Image(data=picture())) == "Image: (9, 12, 3) "
    assert str(Image(data=torch.zeros(2, 3))) == "Image: torch.Size([2, 3]) "
    assert str(Image(imageURL="u")) == "Image:  u"


def test_even_kernels_are_padded_by_half_their_size():
    embedding = ConvTransformNetworkImageEmbeddings(3, {**NETWORK, "kernel_sizes": [(4, 5), (3, 2)]}, None, None)
    layers = [layer for layer in embedding.conv_features if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.padding for layer in layers] == [(2, 2), (1, 1)]
