"""What a bundle offers to programs that build its parts themselves: preprocessing, inferer and postprocessing.

MONAI Label and MONAI Deploy do not start ``evaluator.run()``. They pass a dictionary with a path in ``image`` through
``preprocessing``, call ``inferer(image, network)``, put what it returns into ``pred``, and pass the dictionary through
``postprocessing``. Here is that interface for the whole-volume methods of this package: the same code as behind
``monai.bundle run``, so that the voxels are the same.
"""
