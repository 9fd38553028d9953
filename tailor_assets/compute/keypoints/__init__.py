"""Points tracked by DeepLabCut, SLEAP or another program: reading, cleaning, and features of them."""
