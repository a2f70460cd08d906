"""What torch saves: zips, streams, tars, TorchScript and exported programs."""
