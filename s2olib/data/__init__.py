"""From rasters to tensors: archives of Sentinel-1, Sentinel-2 and land cover, cut into triplets on disk.

In: `embedded` writes the synthetic archive, `archive` reads SEN12MS, `rasters` your own folders, `landcover` maps and
their legends. Cut: `build` judges windows, `splits` keeps regions apart, `store` writes what passes. Out: `triplets`
are what networks see, `labels` the same with worse land cover, `export` GeoTIFFs, `datasheet` the description. `sar`
reads one raster for a trained generator. `triplets` and `labels` need NumPy, pandas, PyYAML and torch alone, and the
tables of `landcover` not even torch; `archive`, `rasters` and `build` need rasterio, and no torch.
"""

SPLITS = ("train", "validation", "test")
