/* libcuda.so.1 of a driver for CUDA 12.4, as far as CUDA's runtime looks before it turns away. */
#include <string.h>

int cuInit(unsigned flags) { return (int)flags; }

int cuDriverGetVersion(int* version) {
    *version = 12040;
    return 0;
}

static int not_initialized(void) { return 3; }

int cuGetProcAddress_v2(const char* symbol, void** found, int version, unsigned long long flags, int* status) {
    (void)version, (void)flags;
    *found = (void*)not_initialized;
    if (strcmp(symbol, "cuInit") == 0) *found = (void*)cuInit;
    if (strcmp(symbol, "cuDriverGetVersion") == 0) *found = (void*)cuDriverGetVersion;
    if (strncmp(symbol, "cuGetProcAddress", 16) == 0) *found = (void*)cuGetProcAddress_v2;
    if (status) *status = 0;
    return 0;
}
