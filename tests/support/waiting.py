"""The one limit on waiting: it ends a hang, and no test passes or fails by how fast the machine is."""

HANG_S = 1_800.0  # a wait that lasts so long will never end; a machine ten times slower stays far below it
