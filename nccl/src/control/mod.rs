//! The control plane: who is there, who is gone, who failed.
