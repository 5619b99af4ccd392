/* Empty: nccl.h includes this file, but uses nothing of it when it is read as C. */
