"""Published sequence taggers: short names, and the repositories and files behind them."""

from __future__ import annotations

HUGGING_FACE: dict[str, str] = {
    "ner": "flair/ner-english",
    "ner-fast": "flair/ner-english-fast",
    "ner-ontonotes": "flair/ner-english-ontonotes",
    "ner-ontonotes-fast": "flair/ner-english-ontonotes-fast",
    "ner-large": "flair/ner-english-large",
    "ner-ontonotes-large": "flair/ner-english-ontonotes-large",
    "de-ner-large": "flair/ner-german-large",
    "nl-ner-large": "flair/ner-dutch-large",
    "es-ner-large": "flair/ner-spanish-large",
    "ner-multi": "flair/ner-multi",
    "multi-ner": "flair/ner-multi",
    "ner-multi-fast": "flair/ner-multi-fast",
    "upos": "flair/upos-english",
    "upos-fast": "flair/upos-english-fast",
    "pos": "flair/pos-english",
    "pos-fast": "flair/pos-english-fast",
    "pos-multi": "flair/upos-multi",
    "multi-pos": "flair/upos-multi",
    "pos-multi-fast": "flair/upos-multi-fast",
    "multi-pos-fast": "flair/upos-multi-fast",
    "frame": "flair/frame-english",
    "frame-fast": "flair/frame-english-fast",
    "chunk": "flair/chunk-english",
    "chunk-fast": "flair/chunk-english-fast",
    "da-ner": "flair/ner-danish",
    "de-ner": "flair/ner-german",
    "de-ler": "flair/ner-german-legal",
    "de-ner-legal": "flair/ner-german-legal",
    "fr-ner": "flair/ner-french",
    "nl-ner": "flair/ner-dutch",
    "ner-ukrainian": "dchaplinsky/flair-uk-ner",
    "pos-ukrainian": "dchaplinsky/flair-uk-pos",
    "de-historic-direct": "aehrm/redewiedergabe-direct",
    "de-historic-indirect": "aehrm/redewiedergabe-indirect",
    "de-historic-reported": "aehrm/redewiedergabe-reported",
    "de-historic-free-indirect": "aehrm/redewiedergabe-freeindirect",
}
"""Repositories of the Hugging Face hub. Cached under ``models/<repository name>``."""

_MODELS = "https://nlp.informatik.hu-berlin.de/resources/models"
_HUNFLAIR = f"{_MODELS}/hunflair_allcorpus_models"
_MALAYALAM = "https://raw.githubusercontent.com/qburst/models-repository/master/FlairMalayalamModels"

URLS: dict[str, str] = {
    "ner-pooled": f"{_MODELS}/ner-pooled/en-ner-conll03-pooled-v0.5.pt",
    "frame-large": f"{_MODELS}/frame-large/frame-large.pt",
    "da-pos": f"{_MODELS}/da-pos/da-pos-v0.1.pt",
    "de-pos": f"{_MODELS}/de-pos/de-pos-ud-hdt-v0.5.pt",
    "de-pos-tweets": f"{_MODELS}/de-pos-tweets/de-pos-twitter-v0.1.pt",
    "de-ner-germeval": f"{_MODELS}/de-ner-germeval/de-ner-germeval-0.4.1.pt",
    "ar-ner": f"{_MODELS}/arabic/ar-ner.pt",
    "ar-pos": f"{_MODELS}/arabic/ar-pos.pt",
    "nl-ner-rnn": f"{_MODELS}/nl-ner-rnn/nl-ner-conll02-v0.14.0.pt",
    "ml-pos": f"{_MALAYALAM}/malayalam-xpos-model.pt",
    "ml-upos": f"{_MALAYALAM}/malayalam-upos-model.pt",
    "pt-pos-clinical": f"{_MODELS}/pt-pos-clinical/pucpr-flair-clinical-pos-tagging-best-model.pt",
    "negation-speculation": f"{_MODELS}/negation-speculation-v14/negation-speculation-v0.14.0.pt",
    "hunflair-cellline": f"{_HUNFLAIR}/huner-cellline/hunflair-cellline.pt",
    "hunflair-chemical": f"{_HUNFLAIR}/huner-chemical/hunflair-chemical.pt",
    "hunflair-disease": f"{_HUNFLAIR}/huner-disease/hunflair-disease.pt",
    "hunflair-gene": f"{_HUNFLAIR}/huner-gene/hunflair-gene.pt",
    "hunflair-species": f"{_HUNFLAIR}/huner-species/hunflair-species.pt",
}
"""Files. Cached under ``models``."""
