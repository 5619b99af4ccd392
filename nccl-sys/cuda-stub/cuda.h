/* Stands in for CUDA's header where nccl_device/host.h is read without a CUDA toolkit. */
typedef int CUmemLocationType;
