"""Export: a checkpoint as other programs read it, proved to be the same model before anyone sees it.

In:  runs/<run>/checkpoints and the vocabulary. Out: a folder that transformers loads without code of ours.
Holds: what is published was loaded back and compared (logits, greedy tokens, ids, chat), or says that it was not.
Run: python -m train.export --run RUN[@STEP] --to hf FOLDER
"""
