"""File formats of one volume, one module each: the only modules that know nibabel, SimpleITK and Pillow."""
