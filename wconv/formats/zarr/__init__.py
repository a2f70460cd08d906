"""Arrays in chunks, as Zarr keeps them: in files of a directory, or in OCDBT's tree of values."""
