"""The models of the MONAI Label app."""
