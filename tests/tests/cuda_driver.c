/* A CUDA driver of host memory, in which everything is done at once; for tests of our table.
 * -DINIT=code: what cuInit returns. -DBARE: nothing but cuInit and cuDeviceGetCount.
 * -DSTUCK: no event is ever reached. The "memory" of a device is the number of live objects, the
 * domain of its PCI address the number of events recorded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef INIT
#define INIT 0
#endif

typedef unsigned long long ptr;
static __thread int stack[16], depth;
static __thread int mode;
static long live, recorded;
static int capturing;
static struct { ptr at; size_t bytes; } blocks[64];

int cuInit(unsigned flags) { return flags ? 1 : INIT; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
#ifndef BARE
int cuDriverGetVersion(int *v) { *v = 12080; return 0; }
int cuGetErrorName(int code, const char **s) {
    *s = code == 1 ? "CUDA_ERROR_INVALID_VALUE" : code == 100 ? "CUDA_ERROR_NO_DEVICE" :
         code == 999 ? "CUDA_ERROR_UNKNOWN" : code == 101 ? "CUDA_ERROR_INVALID_DEVICE" : 0;
    return *s ? 0 : 1;
}
int cuGetErrorString(int code, const char **s) { *s = code == 100 ? "no device" : 0; return *s ? 0 : 1; }
int cuDeviceGet(int *d, int n) { if (n < 0 || n > 1) return 101; *d = n + 40; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "Fake GPU", n); return d < 40; }
int cuDeviceGetUuid(unsigned char *u, int d) { memset(u, d, 16); return 0; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = live; return d < 40; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : a == 76 ? 0 : -1; return d < 40; }
int cuDeviceGetPCIBusId(char *s, int n, int d) { snprintf(s, n, "%04lX:3B:00.0", recorded); return d < 40; }
int cuDevicePrimaryCtxRetain(void **c, int d) { live++; *c = (void *)(long)(d * 16); return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { live--; return d < 40; }
int cuCtxGetCurrent(void **c) { *c = depth ? (void *)(long)stack[depth - 1] : 0; return 0; }
int cuCtxPushCurrent_v2(void *c) { live++; stack[depth++] = (int)(long)c; return 0; }
int cuCtxPopCurrent_v2(void **c) { if (!depth) return 201; live--; *c = (void *)(long)stack[--depth]; return 0; }
int cuThreadExchangeStreamCaptureMode(int *m) { int was = mode; mode = *m; *m = was; return 0; }
static int handle(void **h) { if (!depth) return 201; live++; *h = malloc(8); return 0; }
static int gone(void *h) { if (!depth) return 201; live--; free(h); return 0; }
int cuStreamCreate(void **s, unsigned flags) { return flags == 1 ? handle(s) : 1; }
int cuStreamDestroy_v2(void *s) { return gone(s); }
int cuStreamQuery(void *s) { (void)s; return depth ? 0 : 201; }
int cuStreamWaitEvent(void *s, void *e, unsigned f) { (void)s; (void)e; return f; }
int cuStreamIsCapturing(void *s, int *v) { (void)s; *v = capturing; return 0; }
int cuStreamBeginCapture_v2(void *s, int m) { if (s == (void *)1) return 900; capturing = 1; return m > 2; }
int cuStreamEndCapture(void *s, void **g) { (void)s; if (!capturing) return 1; capturing = 0; return handle(g); }
int cuStreamGetCtx(void *s, void **c) { (void)s; return cuCtxGetCurrent(c); }
int cuGraphInstantiateWithFlags(void **x, void *g, unsigned long long f) { return g && !f ? handle(x) : 1; }
int cuGraphLaunch(void *x, void *s) { (void)s; return !x; }
int cuGraphDestroy(void *g) { return gone(g); }
int cuGraphExecDestroy(void *x) { return gone(x); }
int cuEventCreate(void **e, unsigned f) { return f == 2 ? handle(e) : 1; }
int cuEventRecord(void *e, void *s) { (void)e; (void)s; recorded++; return depth ? 0 : 201; }
int cuEventDestroy_v2(void *e) { return gone(e); }
#ifdef STUCK
int cuEventQuery(void *e) { (void)e; return 600; }
#else
int cuEventQuery(void *e) { static int n; (void)e; if (mode != 2) return 900; return n++ % 3 ? 0 : 600; }
#endif
int cuMemAlloc_v2(ptr *p, size_t n) {
    if (n > 1u << 30) return 2;
    for (int i = 0; i < 64; i++)
        if (!blocks[i].at) {
            live++;
            void *m = aligned_alloc(256, (n + 255) / 256 * 256);
            memset(m, 0xa5, n);
            blocks[i].at = *p = (ptr)m;
            blocks[i].bytes = n;
            return 0;
        }
    return 2;
}
int cuMemFree_v2(ptr p) {
    for (int i = 0; i < 64; i++)
        if (blocks[i].at == p) { live--; free((void *)p); blocks[i].at = 0; return 0; }
    return 1;
}
int cuMemsetD8Async(ptr p, unsigned char v, size_t n, void *s) { (void)s; memset((void *)p, v, n); return 0; }
int cuMemHostAlloc(void **p, size_t n, unsigned f) { live++; *p = malloc(n); memset(*p, 0xa5, n); return f != 1; }
int cuMemFreeHost(void *p) { live--; free(p); return 0; }
int cuMemcpyHtoDAsync_v2(ptr d, const void *h, size_t n, void *s) { (void)s; memcpy((void *)d, h, n); return 0; }
int cuMemcpyDtoHAsync_v2(void *h, ptr d, size_t n, void *s) { (void)s; memcpy(h, (void *)d, n); return 0; }
int cuMemcpyDtoDAsync_v2(ptr a, ptr b, size_t n, void *s) { (void)s; memcpy((void *)a, (void *)b, n); return 0; }
/* What cudarc calls besides. */
int cuCtxSetCurrent(void *c) { if (!depth) depth = 1; stack[depth - 1] = (int)(long)c; return 0; }
int cuCtxSynchronize(void) { return 0; }
int cuStreamSynchronize(void *s) { (void)s; return 0; }
int cuEventSynchronize(void *e) { (void)e; return 0; }
int cuMemAllocAsync(ptr *p, size_t n, void *s) { (void)s; return cuMemAlloc_v2(p, n); }
int cuMemFreeAsync(ptr p, void *s) { (void)s; return cuMemFree_v2(p); }
int cuPointerGetAttribute(void *v, int a, ptr p) {
    for (int i = 0; i < 64; i++)
        if (blocks[i].at && p >= blocks[i].at && p < blocks[i].at + blocks[i].bytes) {
            if (a == 2) { *(int *)v = 2; return 0; }
            if (a == 8) { *(int *)v = 0; return 0; }
            if (a == 9) { *(int *)v = 1; return 0; }
            if (a == 11) { *(ptr *)v = blocks[i].at; return 0; }
            if (a == 12) { *(size_t *)v = blocks[i].bytes; return 0; }
        }
    return 1;
}
#endif
