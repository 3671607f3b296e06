"""From rasters to tensors: archives of Sentinel-1, Sentinel-2 and land cover, cut into triplets on disk.

`triplets` and the tables of `landcover` need NumPy, pandas and torch alone; `archive`, `rasters` and `build` need
rasterio, and no torch.
"""

SPLITS = ("train", "validation", "test")
