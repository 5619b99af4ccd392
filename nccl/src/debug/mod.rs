//! Log lines in NCCL's format and words.
