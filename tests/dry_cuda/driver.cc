// A driver that shows one GPU, an H100 of CUDA 13.
#include <cstring>

enum { MAJOR = 75, MINOR = 76 };  // of the compute capability, as cuDeviceGetAttribute counts

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int number) { return *device = number, 0; }
int cuDeviceGetName(char* name, int, int) { return std::strcpy(name, "none, a dry run"), 0; }
int cuDeviceGetAttribute(int* value, int which, int) { return *value = which == MAJOR ? 9 : 0, 0; }
int cuGetErrorName(int, const char** name) { return *name = "error of a dry run", 0; }
}
