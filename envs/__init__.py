"""Streams: base environments, the shifts that change them, and the schedules that say when.

Importing this package registers ``rlplastic/<Base>-Shifted-v0`` with Gymnasium, for every base
environment of every suite::

    import gymnasium, rlplastic.envs
    env = gymnasium.make("rlplastic/CartPole-Shifted-v0", track="observation", period=10_000)
"""
