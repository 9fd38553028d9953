"""Simulated laboratory recordings with known truth. Start reading at ``simulate.py``.

A video is made from a seed: an arena is painted once (``arena``, ``scenery``, ``nest``), a rodent
decides what to do (``behavior``), its body follows (``skeleton``), it is drawn into the picture
(``rodent``, ``render``) and looked at through an imperfect camera (``camera``).

That is the everyday variety, for demonstrations, tests and benchmarks. The wide one is for fitting
models (``training_clip``) and starts at ``wide_scene``: any floor seen from anywhere
(``wide_ground``, ``view``, ``wide_scenery``, ``clutter``, ``shelter``), several unlike animals
(``individuals``, ``company``) that come and go (``presence``), what reaches over them
(``overhead``), drawn in order of depth (``wide_render``) and stored by any recorder (``sensor``).
"""
