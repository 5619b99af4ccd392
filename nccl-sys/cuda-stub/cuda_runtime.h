/* Stands in for CUDA's header where nccl.h is read without a CUDA toolkit: only what nccl.h names. */
#ifndef NCCL_RS_CUDA_STUB_H
#define NCCL_RS_CUDA_STUB_H
#include <stddef.h>
#define CUDART_VERSION 12000
/* Without this, nccl.h before 2.24 leaves ncclBfloat16 out. */
#define __CUDA_BF16_TYPES_EXIST__
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
#endif
