//! Rounds, run against each other in memory.
