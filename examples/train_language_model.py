"""Train a small character language model, interrupt it, go on, and use its states as word embeddings.

The text are the 438 training sentences of the everyday-requests corpus: too few for a good model, enough to see it
learn in half a minute. Everything is written into a folder; no network is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import flair
from flair.data import Dictionary, Sentence
from flair.embeddings import FlairEmbeddings
from flair.models import LanguageModel
from flair.trainers import LanguageModelTrainer, TextCorpus

REQUESTS = Path(__file__).resolve().parent.parent / "resources" / "tasks" / "everyday_requests"


def write_corpus(folder: Path) -> None:
    """The layout that :class:`~flair.trainers.TextCorpus` reads: train/ with splits, valid.txt, test.txt."""
    texts = {
        part: [line.partition(" ")[2] for line in (REQUESTS / f"{part}.txt").read_text(encoding="utf-8").splitlines()]
        for part in ("train", "dev", "test")
    }
    (folder / "train").mkdir(parents=True, exist_ok=True)
    half = len(texts["train"]) // 2
    for number, part in enumerate((texts["train"][:half], texts["train"][half:])):
        (folder / "train" / f"split_{number}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    (folder / "valid.txt").write_text("\n".join(texts["dev"]) + "\n", encoding="utf-8")
    (folder / "test.txt").write_text("\n".join(texts["test"]) + "\n", encoding="utf-8")


def known_characters(folder: Path) -> Dictionary:
    """A dictionary of the characters in the training text; others count as ``<unk>``."""
    dictionary = Dictionary()
    for file in sorted((folder / "train").iterdir()):
        for character in file.read_text(encoding="utf-8"):
            dictionary.add_item(character)
    return dictionary


def main() -> None:
    """Read the command line, train twice three epochs, and show what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("lm-output"), help="where to write (default: lm-output)")
    parser.add_argument("--epochs", type=int, default=6, help="how often to go through the text (default: 6)")
    arguments = parser.parse_args()
    flair.set_seed(1)

    write_corpus(arguments.output / "corpus")
    dictionary = known_characters(arguments.output / "corpus")
    corpus = TextCorpus(arguments.output / "corpus", dictionary)
    model = LanguageModel(dictionary, is_forward_lm=True, hidden_size=128, nlayers=1, embedding_size=32, dropout=0.1)

    first_half = arguments.epochs // 2
    settings = {"sequence_length": 40, "mini_batch_size": 10, "learning_rate": 10, "checkpoint": True}
    LanguageModelTrainer(model, corpus).train(arguments.output, max_epochs=first_half, **settings)
    trainer = LanguageModelTrainer.load_checkpoint(arguments.output / "checkpoint.pt", corpus)
    trainer.train(arguments.output, max_epochs=arguments.epochs, **settings)

    best = LanguageModel.load_language_model(arguments.output / "best-lm.pt")
    print("\nGenerated:", *best.generate_text("\n", 150, temperature=0.7)[0].splitlines(), sep="\n  ")
    for text in ("How do I cook the rice?", "rice? the cook I do How", "zxqv jjj kwzpt"):
        print(f"perplexity {best.calculate_perplexity(text):8.2f}  {text}")

    sentence = Sentence("How long does the ferry take?")
    FlairEmbeddings(best).embed(sentence)
    print("a vector for each word:", [(token.text, tuple(token.embedding.shape)) for token in sentence])


if __name__ == "__main__":
    main()
