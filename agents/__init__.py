"""Agents: stable-baselines3's DQN and PPO, whose losses go through the interventions."""
