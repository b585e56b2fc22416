"""rlplastic: does a reinforcement-learning agent stay plastic?"""

__version__ = "0.1.0"
