"""Publishing a tagger on the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from flair._runtime import __version__

if TYPE_CHECKING:
    from flair.models.sequence_tagger_model import SequenceTagger

_README = """---
tags:
- flair
- token-classification
- sequence-tagger-model
---

### {repo_id}

A sequence tagger for `{label_type}` labels, made with [Flair](https://github.com/flairNLP/flair) {version}.

It predicts: {labels}

```python
from flair.data import Sentence
from flair.models import SequenceTagger

tagger = SequenceTagger.load("{repo_id}")
sentence = Sentence("On September 1st George won 1 dollar while watching Game of Thrones.")
tagger.predict(sentence)
print(sentence.to_tagged_string())
```
"""


def readme(tagger: SequenceTagger, repo_id: str) -> str:
    """The page of a published tagger."""
    labels = sorted({item.split("-", 1)[-1] if tagger.predict_spans else item for item in tagger.tag_names()})
    return _README.format(
        repo_id=repo_id,
        label_type=tagger.label_type,
        version=__version__,
        labels=", ".join(f"`{label}`" for label in labels),
    )


def push(
    tagger: SequenceTagger, repo_id: str, token: Optional[str], private: Optional[bool], commit_message: str
) -> str:
    """Upload the model file and a page about it; returns the URL of the repository."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    url = api.create_repo(repo_id=repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tagger.save(Path(folder) / "pytorch_model.bin")
        (Path(folder) / "README.md").write_text(tagger._generate_model_card(repo_id), encoding="utf-8")
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message)
    return str(url)
