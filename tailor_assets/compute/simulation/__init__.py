"""Simulated laboratory recordings with known truth. Start reading at ``simulate.py``.

A video is made from a seed: an arena is painted once (``arena``, ``scenery``, ``nest``), a rodent
decides what to do (``behavior``), its body follows (``skeleton``), it is drawn into the picture
(``rodent``, ``render``) and looked at through an imperfect camera (``camera``).
"""
