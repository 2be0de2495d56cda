"""File formats of one volume: the only modules that know nibabel, SimpleITK, tifffile and Pillow."""
