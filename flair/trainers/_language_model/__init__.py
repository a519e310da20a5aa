"""Private parts of :mod:`flair.trainers.language_model_trainer`: text as indices, and the training run."""
