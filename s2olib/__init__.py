"""s2olib: SAR-to-optical translation of Sentinel images, the library behind the executable paper S2OFormer."""

__version__ = "0.1.0"
