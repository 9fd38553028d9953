"""How good any registered segmenter's masks are. Start reading at ``__main__.py``.

``scores`` has the arithmetic, ``contenders`` runs a segmenter on a recording, ``recordings`` opens
the real recordings and their truth; ``simulated``, ``open_field``, ``stills``, ``empty_chamber`` and
``speed`` are the parts, ``report`` and ``sheets`` what a person gets to see.
"""
