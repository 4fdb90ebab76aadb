// Stands in for CUDA's libraries where there is no GPU: everything can be called, nothing is computed.
//
// Memory of the device can be neither read nor written, so that a program that takes it for the host's own crashes.
// Copies have to name their direction as it is, products and convolutions have to get memory of the device, and
// shapes that fit. What is copied from the device is zero. The device has DRY_CUDA_MB of memory, 80 GB if left out. A
// kernel takes it DRY_CUDA_US microseconds, none if left out, which the host waits for only where it has to.
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cudnn.h>
#include <cufft.h>
#include <curand.h>
#include <cusparse.h>
#include <execinfo.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

namespace {

void demand(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "dry run: %s\n", what);
    void* frames[40];
    backtrace_symbols_fd(frames, backtrace(frames, 40), 2);
    std::abort();
}

constexpr std::size_t PAGE = 4096;

long setting(const char* variable, long otherwise) {
    const char* asked = std::getenv(variable);
    return asked ? std::atol(asked) : otherwise;
}

std::size_t memory() { return std::size_t(setting("DRY_CUDA_MB", 80 << 10)) << 20; }

class Device {  // never destroyed: Jittor frees memory while the process ends
public:
    cudaError_t take(void** place, std::size_t bytes) {
        const std::size_t whole = std::max((bytes + PAGE - 1) / PAGE * PAGE, PAGE);
        if (now + whole > memory()) return cudaErrorMemoryAllocation;
        void* found = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (found == MAP_FAILED) return cudaErrorMemoryAllocation;
        std::lock_guard<std::mutex> lock(mutex);
        blocks[static_cast<char*>(*place = found)] = whole;
        now += whole;
        most = std::max(most, now);
        return cudaSuccess;
    }

    cudaError_t free(void* place) {
        std::lock_guard<std::mutex> lock(mutex);
        const auto block = blocks.find(static_cast<char*>(place));
        demand(block != blocks.end() || !place, "freed what was not allocated on the device");
        if (!place) return cudaSuccess;
        now -= block->second;
        munmap(place, block->second);
        blocks.erase(block);
        return cudaSuccess;
    }

    bool has(const void* place, std::size_t bytes = 1) {
        std::lock_guard<std::mutex> lock(mutex);
        char* start = static_cast<char*>(const_cast<void*>(place));
        auto block = blocks.upper_bound(start);
        if (block == blocks.begin() || start >= (--block)->first + block->second) return false;
        demand(start + bytes <= block->first + block->second, "reaches beyond an allocation");
        return true;
    }

    void launch() {
        static const std::chrono::microseconds kernel(setting("DRY_CUDA_US", 0));
        ++launches;
        busy_until = std::max(busy_until, Clock::now()) + kernel;
    }

    void wait() { std::this_thread::sleep_until(busy_until); }

    std::size_t most = 0;
    long launches = 0, to_device = 0, to_host = 0;

private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point busy_until;
    std::mutex mutex;
    std::map<char*, std::size_t> blocks;
    std::size_t now = 0;
};

Device& device() {
    static Device& only = *new Device;
    return only;
}

struct Report {
    ~Report() {
        std::fprintf(stderr, "dry run: %ld launches, %zu MB at most, %ld copies to the device, %ld to the host\n",
                     device().launches, device().most >> 20, device().to_device, device().to_host);
    }
} report;

cudaError_t launch() { return device().launch(), cudaSuccess; }

cudaError_t wait() { return device().wait(), cudaSuccess; }

}  // namespace

// ------------------------------------------------------------------------------------------------- the runtime

extern "C" {
cudaError_t cudaMalloc(void** place, size_t bytes) { return device().take(place, bytes); }
cudaError_t cudaFree(void* place) { return device().free(place); }
cudaError_t cudaMallocHost(void** place, size_t bytes) {
    return (*place = std::malloc(bytes)) ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* place) { return std::free(place), cudaSuccess; }
cudaError_t cudaMallocManaged(void**, size_t, unsigned) { return cudaErrorNotSupported; }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    if (!bytes) return cudaSuccess;
    const bool into = device().has(to, bytes), out_of = device().has(from, bytes);
    demand(kind == cudaMemcpyDefault || kind == (into ? out_of ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
                                                      : out_of ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost),
           "a copy in another direction than it says");
    if (into && !out_of) ++device().to_device;
    if (out_of && !into) ++device().to_host;
    if (!into) out_of ? std::memset(to, 0, bytes) : std::memmove(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (kind != cudaMemcpyHostToDevice) device().wait();
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemset(void* place, int, size_t bytes) {
    demand(device().has(place, bytes), "cudaMemset of the host's memory");
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* place, int value, size_t bytes, cudaStream_t) {
    return cudaMemset(place, value, bytes);
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *free = *total = memory(), cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* number) { return *number = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return wait(); }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 1, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
    *found = cudaDeviceProp();
    found->major = 9, found->totalGlobalMem = memory(), found->multiProcessorCount = 132;
    found->maxThreadsPerBlock = 1024, found->warpSize = 32;
    return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "an error of a dry run"; }
const char* cudaGetErrorName(cudaError_t) { return "an error of a dry run"; }

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return *stream = nullptr, cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = nullptr, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return wait(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) { return function(data), cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return *event = nullptr, cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return wait(); }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { return *ms = 1, cudaSuccess; }

// What nvcc puts into a program that it has compiled.
void** __cudaRegisterFatBinary(void*) { static void* any; return &any; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*, int*) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
char __cudaInitModule(void**) { return 0; }
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t, void*) {
    demand(grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y < 65536 && grid.z < 65536, "a grid that no GPU takes");
    demand(block.x * block.y * block.z > 0 && block.x * block.y * block.z <= 1024, "a block that no GPU takes");
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaSuccess; }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaSuccess; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) { return launch(); }
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return launch(); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) { return launch(); }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) {
    return *found = cudaFuncAttributes(), cudaSuccess;
}

// ------------------------------------------------------------------------------- cuBLAS, cuRAND, cuFFT, cuSPARSE

cublasStatus_t cublasCreate_v2(cublasHandle_t*) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSgemm_v2(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const float*,
                              const float*, int, const float*, int, const float*, float*, int) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasGemmStridedBatchedEx(
        cublasHandle_t, cublasOperation_t a_turned, cublasOperation_t b_turned, int m, int n, int k, const void*,
        const void* a, cudaDataType, int a_apart, long long, const void* b, cudaDataType, int b_apart, long long,
        const void*, void* c, cudaDataType, int c_apart, long long, int count, cublasComputeType_t, cublasGemmAlgo_t) {
    demand(device().has(a) && device().has(b) && device().has(c), "a product of the host's memory");
    demand(m > 0 && n > 0 && k > 0 && count > 0, "a product of nothing");
    demand(a_apart >= (a_turned == CUBLAS_OP_N ? m : k) && b_apart >= (b_turned == CUBLAS_OP_N ? k : n)
           && c_apart >= m, "a product of rows that overlap");
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGemmEx(
        cublasHandle_t handle, cublasOperation_t a_turned, cublasOperation_t b_turned, int m, int n, int k,
        const void* alpha, const void* a, cudaDataType a_type, int a_apart, const void* b, cudaDataType b_type,
        int b_apart, const void* beta, void* c, cudaDataType c_type, int c_apart, cublasComputeType_t compute,
        cublasGemmAlgo_t way) {
    return cublasGemmStridedBatchedEx(handle, a_turned, b_turned, m, n, k, alpha, a, a_type, a_apart, 0, b, b_type,
                                      b_apart, 0, beta, c, c_type, c_apart, 0, 1, compute, way);
}

curandStatus_t curandCreateGenerator(curandGenerator_t*, curandRngType_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandDestroyGenerator(curandGenerator_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t, unsigned long long) {
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandGenerateUniform(curandGenerator_t, float* place, size_t count) {
    demand(device().has(place, 4 * count), "random numbers for the host");
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandGenerateNormal(curandGenerator_t, float* place, size_t count, float, float) {
    demand(device().has(place, 4 * count), "random numbers for the host");
    return count % 2 ? CURAND_STATUS_LENGTH_NOT_MULTIPLE : CURAND_STATUS_SUCCESS;
}
cufftResult cufftDestroy(cufftHandle) { return CUFFT_SUCCESS; }
cusparseStatus_t cusparseCreate(cusparseHandle_t*) { return CUSPARSE_STATUS_SUCCESS; }
cusparseStatus_t cusparseDestroy(cusparseHandle_t) { return CUSPARSE_STATUS_SUCCESS; }
}

// ------------------------------------------------------------------------------------------------------- cuDNN

struct cudnnTensorStruct { int shape[4]; };
struct cudnnFilterStruct { int shape[4]; };
struct cudnnConvolutionStruct { int padding[2], stride[2], dilation[2], groups; };

namespace {

using Map = cudnnTensorDescriptor_t;
using Filter = cudnnFilterDescriptor_t;
using Convolution = cudnnConvolutionDescriptor_t;

cudnnStatus_t check(Map x, Filter w, Convolution how, Map y, const void* x_place, const void* w_place,
                    const void* y_place) {
    bool fits = x->shape[0] == y->shape[0] && y->shape[1] == w->shape[0] && w->shape[0] % how->groups == 0
                && x->shape[1] == w->shape[1] * how->groups;
    for (int axis = 0; axis < 2; ++axis) {
        const int reach = how->dilation[axis] * (w->shape[2 + axis] - 1) + 1;
        const int places = (x->shape[2 + axis] + 2 * how->padding[axis] - reach) / how->stride[axis] + 1;
        fits = fits && y->shape[2 + axis] == places;
    }
    demand(fits, "a convolution of shapes that do not fit");
    auto whole = [](const int* shape, const void* place) {
        return device().has(place, 4L * shape[0] * shape[1] * shape[2] * shape[3]);
    };
    demand(whole(x->shape, x_place) && whole(w->shape, w_place) && whole(y->shape, y_place),
           "a convolution of the host's memory");
    return CUDNN_STATUS_SUCCESS;
}

template <class Found>
cudnnStatus_t first_way(int* count, Found* found) {
    *count = 1, *found = Found();
    return CUDNN_STATUS_SUCCESS;
}

template <class Descriptor>
cudnnStatus_t set(Descriptor descriptor, int dimensions, const int* shape) {
    demand(dimensions == 4 && *std::min_element(shape, shape + 4) > 0, "a shape that cuDNN does not take");
    std::copy(shape, shape + 4, descriptor->shape);
    return CUDNN_STATUS_SUCCESS;
}

}  // namespace

extern "C" {
cudnnStatus_t cudnnCreate(cudnnHandle_t*) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroy(cudnnHandle_t) { return CUDNN_STATUS_SUCCESS; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "an error of a dry run"; }
cudnnStatus_t cudnnCreateTensorDescriptor(Map* made) { return *made = new cudnnTensorStruct(), CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroyTensorDescriptor(Map map) { delete map; return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnCreateFilterDescriptor(Filter* made) {
    return *made = new cudnnFilterStruct(), CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(Filter filter) { delete filter; return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnCreateConvolutionDescriptor(Convolution* made) {
    return *made = new cudnnConvolutionStruct(), CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(Convolution how) { delete how; return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnSetTensorNdDescriptor(Map map, cudnnDataType_t, int dimensions, const int* shape, const int*) {
    return set(map, dimensions, shape);
}
cudnnStatus_t cudnnSetFilterNdDescriptor(Filter filter, cudnnDataType_t, cudnnTensorFormat_t, int dimensions,
                                         const int* shape) {
    return set(filter, dimensions, shape);
}
cudnnStatus_t cudnnSetConvolutionNdDescriptor(Convolution how, int axes, const int* padding, const int* stride,
                                              const int* dilation, cudnnConvolutionMode_t, cudnnDataType_t) {
    demand(axes == 2, "a convolution that is not of maps");
    std::copy(padding, padding + 2, how->padding);
    std::copy(stride, stride + 2, how->stride);
    std::copy(dilation, dilation + 2, how->dilation);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(Convolution how, int groups) {
    return how->groups = groups, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(Convolution, cudnnMathType_t) { return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t cudnnConvolutionForward(
        cudnnHandle_t, const void*, Map x, const void* x_place, Filter w, const void* w_place, Convolution how,
        cudnnConvolutionFwdAlgo_t, void*, size_t, const void*, Map y, void* y_place) {
    return check(x, w, how, y, x_place, w_place, y_place);
}
cudnnStatus_t cudnnConvolutionBackwardData(
        cudnnHandle_t, const void*, Filter w, const void* w_place, Map y, const void* y_place, Convolution how,
        cudnnConvolutionBwdDataAlgo_t, void*, size_t, const void*, Map x, void* x_place) {
    return check(x, w, how, y, x_place, w_place, y_place);
}
cudnnStatus_t cudnnConvolutionBackwardFilter(
        cudnnHandle_t, const void*, Map x, const void* x_place, Map y, const void* y_place, Convolution how,
        cudnnConvolutionBwdFilterAlgo_t, void*, size_t, const void*, Filter w, void* w_place) {
    return check(x, w, how, y, x_place, w_place, y_place);
}
cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(
        cudnnHandle_t, Map x, const void* x_place, Filter w, const void* w_place, Convolution how, Map y,
        void* y_place, int, int* count, cudnnConvolutionFwdAlgoPerf_t* found, void*, size_t) {
    return check(x, w, how, y, x_place, w_place, y_place), first_way(count, found);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
        cudnnHandle_t, Filter w, const void* w_place, Map y, const void* y_place, Convolution how, Map x,
        void* x_place, int, int* count, cudnnConvolutionBwdDataAlgoPerf_t* found, void*, size_t) {
    return check(x, w, how, y, x_place, w_place, y_place), first_way(count, found);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
        cudnnHandle_t, Map x, const void* x_place, Map y, const void* y_place, Convolution how, Filter w,
        void* w_place, int, int* count, cudnnConvolutionBwdFilterAlgoPerf_t* found, void*, size_t) {
    return check(x, w, how, y, x_place, w_place, y_place), first_way(count, found);
}
cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, Map, Filter, Convolution, Map, int, int* count,
                                                     cudnnConvolutionFwdAlgoPerf_t* found) {
    return first_way(count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
        cudnnHandle_t, Filter, Map, Convolution, Map, int, int* count, cudnnConvolutionBwdDataAlgoPerf_t* found) {
    return first_way(count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
        cudnnHandle_t, Map, Map, Convolution, Filter, int, int* count, cudnnConvolutionBwdFilterAlgoPerf_t* found) {
    return first_way(count, found);
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, Map, Filter, Convolution, Map,
                                                      cudnnConvolutionFwdAlgo_t, size_t* bytes) {
    return *bytes = PAGE, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, Filter, Map, Convolution, Map,
                                                           cudnnConvolutionBwdDataAlgo_t, size_t* bytes) {
    return *bytes = PAGE, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, Map, Map, Convolution, Filter,
                                                             cudnnConvolutionBwdFilterAlgo_t, size_t* bytes) {
    return *bytes = PAGE, CUDNN_STATUS_SUCCESS;
}

// Of recurrent networks, which Jittor links with.
cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t*) { return CUDNN_STATUS_NOT_SUPPORTED; }
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t) { return CUDNN_STATUS_NOT_SUPPORTED; }
cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t*) { return CUDNN_STATUS_NOT_SUPPORTED; }
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t) { return CUDNN_STATUS_NOT_SUPPORTED; }
cudnnStatus_t cudnnDropoutGetStatesSize(cudnnHandle_t, size_t*) { return CUDNN_STATUS_NOT_SUPPORTED; }
cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t, cudnnHandle_t, float, void*, size_t,
                                        unsigned long long) {
    return CUDNN_STATUS_NOT_SUPPORTED;
}
}
