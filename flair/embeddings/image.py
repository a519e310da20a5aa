"""Embeddings of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional, Union

import numpy as np
import torch

from flair import _runtime
from flair.class_utils import lazy_import
from flair.data.image import Image
from flair.embeddings.base import Embeddings, register_embeddings

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, per colour
_HEADS_ON_FEATURES = ("resnet50", "mobilenet_v2")


class ImageEmbeddings(Embeddings[Image]):
    """Base of embeddings that give one vector an image. Subclasses define :meth:`encode_documents`."""

    @property
    def embedding_type(self) -> str:
        return "image-level"

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        """One vector an image, in the order given: ``[batch, embedding_length]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define encode_documents.")

    def _add_embeddings_internal(self, images: list[Image]) -> None:  # type: ignore[override]
        for image, vector in zip(images, self.encode_documents(images), strict=True):
            image.set_embedding(self.name, vector)

    def __str__(self) -> str:
        return self.name

    def to_params(self) -> dict[str, Any]:
        """The constructor's arguments; they must be data to be written to a model file."""
        return dict(self._arguments if self._arguments is not None else self._read_arguments())

    _arguments: Optional[dict[str, Any]] = None
    """Not there in instances of released versions."""

    def _read_arguments(self) -> dict[str, Any]:
        """The constructor's arguments, read off the attributes that released versions gave an instance."""
        raise NotImplementedError(f"{type(self).__name__} cannot be saved: it does not define to_params.")

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Embeddings:
        """Rebuild from :meth:`to_params`, or from the instance state that released versions wrote."""
        if "_modules" not in params and "training" not in params:
            return cls(**params)
        old = cls.__new__(cls)
        torch.nn.Module.__init__(old)
        old.__dict__.update(params)
        embedding = cls(**old._read_arguments())
        embedding.load_state_dict(old.state_dict())
        embedding.name = old.name
        return embedding.train(params.get("training", False))


def _open(image: Image) -> Any:
    """The picture behind an address, as a PIL image.

    Raises:
        ValueError: for an image without address, and for a file that holds no picture.
        FileNotFoundError: no such file.
    """
    pictures = lazy_import("visual", "PIL.Image", None)
    address = image.imageURL
    if address is None:
        raise ValueError(f"{image} has no address to read the picture from. Make it with Image(imageURL=path).")
    try:
        with pictures.open(address) as picture:  # type: ignore[attr-defined]
            picture.load()
            return picture
    except FileNotFoundError as error:
        advice = "Download it and pass its path" if "://" in str(address) else "Check the path"
        raise FileNotFoundError(f"The picture {address} is no file on this machine. {advice}.") from error
    except OSError as error:  # includes PIL.UnidentifiedImageError
        raise ValueError(f"{address} holds no picture that PIL can read, or only a part of one: {error}") from error


def _picture(image: Image) -> Any:
    """The picture in an image: its data, else what is behind its address; PIL images with three colours.

    Raises:
        ValueError: neither is there, or the data is no picture of three colours.
    """
    picture = _open(image) if image.data is None else image.data
    if hasattr(picture, "getbands"):
        return picture.convert("RGB")
    shape = tuple(getattr(picture, "shape", ()))
    if len(shape) != 3 or 3 not in (shape[0], shape[-1]):
        raise ValueError(
            f"{image}: the data is a {type(picture).__name__} of shape {shape}. Pass a PIL image, an array "
            f"[height, width, 3] or a tensor [3, height, width]."
        )
    return picture


@register_embeddings
class IdentityImageEmbeddings(ImageEmbeddings):
    """The picture itself, as tensor."""

    def __init__(self, transforms: Callable[[Any], torch.Tensor]) -> None:
        """Read pictures from their address.

        Args:
            transforms: from a PIL image to a tensor.
        """
        self.name = "Identity"
        super().__init__()
        self.PIL = lazy_import("visual", "PIL", None)
        self.transforms = transforms
        self.static_embeddings = True
        self._arguments = {"transforms": transforms}

    def _read_arguments(self) -> dict[str, Any]:
        return {"transforms": self.transforms}

    @property
    def embedding_length(self) -> int:
        """Not defined: pictures differ in size.

        Raises:
            AttributeError: always.
        """
        raise AttributeError("IdentityImageEmbeddings have no length: they are as large as the picture.")

    def encode_documents(self, sentences: list[Any]) -> Any:
        """The picture of each image, as a list where their sizes differ."""
        pictures = [self.transforms(_open(image)).to(_runtime.device) for image in sentences]
        return torch.stack(pictures) if len({picture.shape for picture in pictures}) == 1 else pictures

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "PIL"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.PIL = lazy_import("visual", "PIL", None)


@register_embeddings
class PrecomputedImageEmbeddings(ImageEmbeddings):
    """Vectors from a table by the image's address; zeros for addresses it does not have."""

    def __init__(self, url2tensor_dict: dict[str, torch.Tensor], name: str) -> None:
        """Use a table.

        Args:
            url2tensor_dict: address -> vector; all of one length.
            name: the key of the vectors on images.

        Raises:
            ValueError: an empty table, or vectors that differ in length.
        """
        self.name = name
        super().__init__()
        lengths = {len(vector) for vector in url2tensor_dict.values()}
        if len(lengths) != 1:
            raise ValueError(
                f"PrecomputedImageEmbeddings needs vectors of one length, got {sorted(lengths) or 'none'}."
            )
        self.url2tensor_dict = url2tensor_dict
        self.__embedding_length = lengths.pop()
        self.static_embeddings = True
        self._arguments = {"url2tensor_dict": url2tensor_dict, "name": name}

    def _read_arguments(self) -> dict[str, Any]:
        return {"url2tensor_dict": self.url2tensor_dict, "name": self.name}

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        zeros = torch.zeros(self.__embedding_length)
        vectors = [self.url2tensor_dict.get(image.imageURL, zeros) for image in sentences]
        return torch.stack([vector.to(_runtime.device) for vector in vectors])


@register_embeddings
class NetworkImageEmbeddings(ImageEmbeddings):
    """The features of a network of torchvision, averaged over the picture."""

    def __init__(
        self, name: str, pretrained: bool = True, transforms: Union[list, Callable[[Any], torch.Tensor], None] = None
    ) -> None:
        """Load a network.

        Args:
            name: "resnet50" or "mobilenet_v2".
            pretrained: with the weights published first (IMAGENET1K_V1), which are downloaded; else random ones.
            transforms: what is done to a picture before it becomes a tensor with, for pretrained networks, normalised
                colours: a list of torchvision's transforms, e.g. ``[Resize(256), CenterCrop(224)]``. By default
                pictures keep their size. A function does everything itself, from the picture to ``[3, height, width]``.

        Raises:
            ValueError: for another network.
            ImportError: torchvision is not installed.
            OSError: the weights could not be downloaded.
        """
        self._build(name, "IMAGENET1K_V1" if pretrained else None, pretrained, transforms)

    def _build(self, name: str, weights: Optional[str], pretrained: bool, transforms: Any) -> None:
        if name not in _HEADS_ON_FEATURES:
            raise ValueError(f"Image embeddings {name!r} are not available. Use {' or '.join(_HEADS_ON_FEATURES)}.")
        self.name = name
        super().__init__()
        networks = lazy_import("vision", "torchvision.models", None)
        ways: Any = lazy_import("vision", "torchvision.transforms", None)
        try:
            network = getattr(networks, name)(weights=weights)
        except (OSError, RuntimeError) as error:
            if weights is None:
                raise
            raise OSError(
                f"The weights of {name} are not in {torch.hub.get_dir()}/checkpoints and could not be downloaded "
                f"({error}). Download them where there is a connection and copy that folder here, or pass "
                f"pretrained=False for random weights."
            ) from error
        layers = list(network.children())[:-1]
        if name == "mobilenet_v2":
            layers.append(torch.nn.AdaptiveAvgPool2d((1, 1)))
        self.features = torch.nn.Sequential(*layers)
        self.__embedding_length = 2048 if name == "resnet50" else 1280
        self.transforms: Any = transforms
        if transforms is None or isinstance(transforms, (list, tuple)):
            steps = [*(transforms or []), _as_tensor]
            if pretrained:
                steps.append(ways.Normalize(_MEAN, _DEVIATION))
            self.transforms = ways.Compose(steps)
        self._arguments = {"name": name, "pretrained": pretrained, "transforms": transforms}
        self.to(_runtime.device)
        self.eval()

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Embeddings:
        """Rebuild from :meth:`to_params` (no weights are downloaded) or from a released version's instance state."""
        if "_modules" in params or "training" in params:
            return super().from_params(params)
        embedding = cls.__new__(cls)
        embedding._build(params["name"], None, params["pretrained"], params["transforms"])
        return embedding

    def _read_arguments(self) -> dict[str, Any]:
        return {"name": self.name, "pretrained": False, "transforms": self.transforms}

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        place = next(self.features.parameters())
        pictures = [self.transforms(_picture(image)).to(place.device, place.dtype) for image in sentences]
        if len({picture.shape for picture in pictures}) == 1:
            return self.features(torch.stack(pictures)).flatten(1)
        return torch.cat([self.features(picture.unsqueeze(0)).flatten(1) for picture in pictures])


def _as_tensor(picture: Any) -> torch.Tensor:
    """A PIL image or an array as torchvision's ``ToTensor`` gives it; tensors, ``[3, height, width]``, as they are.

    Whole numbers from 0 to 255 become 0 to 1.
    """
    if not isinstance(picture, torch.Tensor):
        array = np.array(picture)
        picture = torch.from_numpy(array).permute(2, 0, 1).contiguous()
    return picture.float() / 255 if picture.dtype == torch.uint8 else picture


@register_embeddings
class ConvTransformNetworkImageEmbeddings(ImageEmbeddings):
    """Convolutions over the picture, and then, if wanted, a transformer over places and what is seen there.

    The transformer reads one position for each place of the last feature map, and a learned summary after them, whose
    state is the embedding. Positions and transformer come together: the one is of no use without the other.
    """

    def __init__(
        self,
        feats_in: int,
        convnet_parms: dict[str, Any],
        posnet_parms: Optional[dict[str, Any]],
        transformer_parms: Optional[dict[str, Any]],
    ) -> None:
        """Build the network with fresh weights.

        Args:
            feats_in: channels of a picture.
            convnet_parms: lists with an entry a layer: "dropout", "n_feats_out", "kernel_sizes" and "strides" (pairs),
                "groups"; "pool_layers_map" (layer number as text -> size of the max pooling after it); and for the
                end "adaptive_pool_func" ("max" or "avg") and "output_size" (height and width).
            posnet_parms: "nonlinear", and for True "n_hidden": how a place in the picture becomes a vector, which is
                added to what is seen there. None for no places.
            transformer_parms: "n_blocks" and "transformer_encoder_parms" for ``torch.nn.TransformerEncoderLayer``.
                None for no transformer: the result is all features side by side. With only one of
                ``posnet_parms`` and ``transformer_parms``, that one is left out, with a warning.
        """
        super().__init__()
        self._arguments = {
            "feats_in": feats_in,
            "convnet_parms": convnet_parms,
            "posnet_parms": posnet_parms,
            "transformer_parms": transformer_parms,
        }
        self.conv_features = _convolutions(feats_in, convnet_parms)
        features = convnet_parms["n_feats_out"][-1]
        height, width = convnet_parms["output_size"]
        self.use_transformer = posnet_parms is not None and transformer_parms is not None
        if posnet_parms is not None and transformer_parms is not None:
            sizes = [2, posnet_parms["n_hidden"], features] if posnet_parms["nonlinear"] else [2, features]
            steps: list[torch.nn.Module] = [torch.nn.Linear(sizes[0], sizes[1])]
            if posnet_parms["nonlinear"]:
                steps += [torch.nn.ReLU(), torch.nn.Linear(sizes[1], sizes[2])]
            self.position_features = torch.nn.Sequential(*steps)
            layer = torch.nn.TransformerEncoderLayer(d_model=features, **transformer_parms["transformer_encoder_parms"])
            self.transformer = torch.nn.TransformerEncoder(
                layer, transformer_parms["n_blocks"], enable_nested_tensor=False
            )
            self.cls_token = torch.nn.Parameter(torch.full((features, 1), 1 / features))
        elif posnet_parms is not None or transformer_parms is not None:
            given, missing = "posnet_parms", "transformer_parms"
            if posnet_parms is None:
                given, missing = missing, given
            _runtime.logger.warning(
                f"ConvTransformNetworkImageEmbeddings got {given} but no {missing}: it leaves them out, because it "
                f"uses a transformer only with positions. The result is the features of the convolutions."
            )
        self._feat_dim = features if self.use_transformer else features * height * width
        self.to(_runtime.device)

    def _read_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            **_read_convolutions(self.conv_features),
            "posnet_parms": None,
            "transformer_parms": None,
        }
        if self.use_transformer:
            arguments["posnet_parms"] = {"nonlinear": len(self.position_features) > 1}
            if len(self.position_features) > 1:
                arguments["posnet_parms"]["n_hidden"] = self.position_features[0].out_features
            arguments["transformer_parms"] = {
                "n_blocks": len(self.transformer.layers),
                "transformer_encoder_parms": _read_layer(self.transformer.layers[0]),
            }
        return arguments

    @property
    def embedding_length(self) -> int:
        return self._feat_dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From pictures ``[batch, channels, height, width]`` to vectors ``[batch, embedding_length]``."""
        x = self.conv_features(x)
        if not self.use_transformer:
            return torch.nn.functional.layer_norm(x, x.shape[1:]).flatten(1)
        batch, features, height, width = x.shape
        rows, columns = (torch.arange(size, device=x.device, dtype=x.dtype) for size in (height, width))
        places = torch.cartesian_prod(rows, columns)  # in the order that flattening gives
        seen = x.flatten(2).permute(2, 0, 1) + self.position_features(places).unsqueeze(1)
        seen = torch.nn.functional.layer_norm(seen, (features,))
        summary = self.cls_token.t().unsqueeze(1).expand(1, batch, features)
        return self.transformer(torch.cat([seen, summary]))[-1]

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        return self.forward(torch.stack([image.data for image in sentences]).to(_runtime.device))


def _convolutions(channels: int, options: dict[str, Any]) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    rows = zip(
        options["dropout"],
        options["n_feats_out"],
        options["kernel_sizes"],
        options["strides"],
        options["groups"],
        strict=True,
    )
    for number, (dropout, features, kernel, stride, groups) in enumerate(rows):
        if dropout > 0:
            layers.append(torch.nn.Dropout2d(dropout))
        padding = tuple(size // 2 for size in kernel)
        layers.append(torch.nn.Conv2d(channels, features, kernel, stride=stride, padding=padding, groups=groups))
        layers.append(torch.nn.ReLU())
        if str(number) in options["pool_layers_map"]:
            layers.append(torch.nn.MaxPool2d(options["pool_layers_map"][str(number)]))
        channels = features
    pools = {"max": torch.nn.AdaptiveMaxPool2d, "avg": torch.nn.AdaptiveAvgPool2d}
    layers.append(pools[options["adaptive_pool_func"]](options["output_size"]))
    return torch.nn.Sequential(*layers)


def _read_convolutions(network: torch.nn.Sequential) -> dict[str, Any]:
    """The arguments "feats_in" and "convnet_parms" that gave these layers."""
    options: dict[str, Any] = {
        "dropout": [],
        "n_feats_out": [],
        "kernel_sizes": [],
        "strides": [],
        "groups": [],
        "pool_layers_map": {},
    }
    feats_in = 0
    dropout = 0.0
    for layer in network:
        if isinstance(layer, torch.nn.Dropout2d):
            dropout = layer.p
        elif isinstance(layer, torch.nn.Conv2d):
            feats_in = feats_in or layer.in_channels
            options["dropout"].append(dropout)
            options["n_feats_out"].append(layer.out_channels)
            options["kernel_sizes"].append(tuple(layer.kernel_size))
            options["strides"].append(tuple(layer.stride))
            options["groups"].append(layer.groups)
            dropout = 0.0
        elif isinstance(layer, torch.nn.MaxPool2d):
            options["pool_layers_map"][str(len(options["groups"]) - 1)] = layer.kernel_size
    last = network[-1]
    options["adaptive_pool_func"] = "max" if isinstance(last, torch.nn.AdaptiveMaxPool2d) else "avg"
    options["output_size"] = last.output_size
    return {"feats_in": feats_in, "convnet_parms": options}


def _read_layer(layer: Any) -> dict[str, Any]:
    """The arguments of ``torch.nn.TransformerEncoderLayer``, less its size."""
    # A function, or its name where the file was read without running it.
    activation = getattr(layer.activation, "__name__", str(layer.activation)).rpartition(".")[2]
    return {
        "nhead": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": activation,
        "layer_norm_eps": layer.norm1.eps,
        "batch_first": layer.self_attn.batch_first,
        "norm_first": layer.norm_first,
        "bias": layer.linear1.bias is not None,
    }
