"""Inflate a silhouette to a closed surface with colours."""
