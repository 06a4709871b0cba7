"""Doctor: whether this machine is fit to train on. `python -m train.doctor`."""
