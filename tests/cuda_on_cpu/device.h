// CUDA's execution model on the CPU: kernels compiled by g++ run with barriers, shuffles and atomics, and no GPU.
//
// Include it before the kernels and, if at all, after NVIDIA's headers. `kernel<<<grid, block, bytes, stream>>>(
// arguments)` becomes `emulated::Launch(grid, block, bytes, stream)(callable, arguments)`; rewrite.py does that.
// A launch returns when all threads have; the stream is ignored. Blocks run on all cores if OpenMP is on.
//
// A fiber runs the threads of a block one after the other. Where one waits another fiber takes the next thread,
// so a kernel with no barrier or shuffle needs one fiber. A warp runs ahead until it waits for the others. A
// thread that has returned counts as arrived. What would hang or is undefined throws `emulated::Errant` out of
// the launch: threads at different barriers, lanes that never come to a shuffle, sizes that no GPU takes and,
// with EMULATED_ALIGNMENT, misaligned accesses. A lane that reads from one that takes no part gets bytes of
// 0xff, in a float NaN. One thing hangs here alone: a loop that waits for what another thread writes.
//
// No result may depend on the order of threads and blocks. emulated::order(), at first CUDA_ON_CPU_ORDER of the
// environment, sets it: 0 forwards, -1 backwards, else the seed of a shuffle, another for each block.
//
// g++, C++14 or later. Each shared library has its own state.
#pragma once
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static thread_local  // an OS thread runs one block at a time
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#ifndef __VECTOR_TYPES_H__  // NVIDIA's
struct uint3 { unsigned x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#endif

#define EMULATED_STATE __attribute__((weak, visibility("hidden"))) __thread
EMULATED_STATE uint3 threadIdx, blockIdx;
EMULATED_STATE dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulated __attribute__((visibility("hidden"))) {

struct Errant : std::runtime_error {
    explicit Errant(const std::string& what) : std::runtime_error("CUDA on the CPU: " + what) {}
};

inline long& order() {
    static long value = std::getenv("CUDA_ON_CPU_ORDER") ? std::atol(std::getenv("CUDA_ON_CPU_ORDER")) : 0;
    return value;
}

// The numbers below `count` in that order.
inline std::vector<unsigned> ordered(unsigned count, unsigned salt) {
    std::vector<unsigned> numbers(count);
    for (unsigned i = 0; i < count; ++i) numbers[i] = order() < 0 ? count - 1 - i : i;
    std::minstd_rand random(static_cast<unsigned>(order()) * 7919u + salt);
    for (unsigned i = count; order() > 0 && i > 1; --i) std::swap(numbers[i - 1], numbers[random() % i]);
    return numbers;
}

template <class Place>
std::string text(const Place& at) {
    return "(" + std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z) + ")";
}

// ------------------------------------------------------------------------------------------------- fibers

struct Fiber {
    char* stack;  // its lowest address
    std::size_t size;
    void (*work)();  // to begin with; null: it has begun
    void* place[5];  // to go on from
    void* kept;      // by AddressSanitizer
};

#ifdef __SANITIZE_ADDRESS__
inline void leave(Fiber& from, Fiber& to) { __sanitizer_start_switch_fiber(&from.kept, to.stack, to.size); }
inline void arrive(Fiber& here, Fiber& from) {
    __sanitizer_finish_switch_fiber(here.kept, const_cast<const void**>(reinterpret_cast<void**>(&from.stack)),
                                    &from.size);
}
#else
inline void leave(Fiber&, Fiber&) {}
inline void arrive(Fiber&, Fiber&) {}
#endif

// The compiler's own setjmp and longjmp make no system call and do not mind another stack.
__attribute__((noipa, no_sanitize_address)) inline void go_on(Fiber& fiber) {
    if (!fiber.work) __builtin_longjmp(fiber.place, 1);
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = fiber.stack, start.uc_stack.ss_size = fiber.size, start.uc_link = nullptr;
    makecontext(&start, fiber.work, 0);
    fiber.work = nullptr;
    setcontext(&start);
}

__attribute__((noipa, no_sanitize_address)) inline void change(Fiber& from, Fiber& to) {
    leave(from, to);
    if (__builtin_setjmp(from.place) == 0) go_on(to);
    arrive(from, to);
}

// ------------------------------------------------------------------------------------------ threads of a block

struct Site {  // in the source
    const char* file;
    int line;
    static Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
    std::string text() const { return std::string(file) + ":" + std::to_string(line); }
};

struct Meeting {  // where a thread waits for others, and what it brings
    const char* name;
    Site site;
    bool of_warp;    // else of the whole block, at one site
    unsigned lanes;  // of the warp, that meet
    bool vote;
    int from;  // the lane whose value goes to `result`
    std::size_t size;
    const void* value;
    void* result;

    static bool same(const char* a, const char* b) { return a == b || !std::strcmp(a, b); }
    bool with(const Meeting& other) const {
        return same(name, other.name) && lanes == other.lanes && size == other.size
               && (of_warp || (site.line == other.site.line && same(site.file, other.site.file)));
    }
    std::string text() const {
        char mask[32] = "";
        if (of_warp) std::snprintf(mask, sizeof mask, " of lanes 0x%08x", lanes);
        return name + std::string(mask) + " at " + site.text();
    }
};

struct Thread {
    enum State { runs, waits, goes_on, over };
    uint3 index;
    State state;
    Fiber* fiber;  // that it is on
    Meeting meeting;
    unsigned votes;  // the lanes that met and voted
};

class Block;
EMULATED_STATE Block* block;  // that this OS thread runs

class Block {
public:
    std::vector<std::max_align_t> shared;

    Block(dim3 size, std::size_t shared_bytes, void (*call)(const void*), const void* callable)
        : shared(shared_bytes / sizeof(std::max_align_t) + 1), call(call), callable(callable),
          threads(size.x * size.y * size.z) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* const memory = mmap(nullptr, threads.size() * STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(memory, threads.size() * STACK);  // of frames that were there before
#endif
        for (unsigned i = 0; i < threads.size(); ++i) {
            threads[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
            fibers.push_back({static_cast<char*>(memory) + i * STACK, STACK, work, {}, nullptr});
        }
        for (Fiber& fiber : fibers) idle.push_back(&fiber);
    }
    ~Block() { munmap(fibers[0].stack, fibers.size() * STACK); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    // Each warp in turn runs ahead as far as it can, so that one that another should have waited for is seen.
    void run(unsigned number) {
        if (sequence.empty() || order() > 0) arrange(number);
        left = threads.size(), next = 0;
        for (unsigned i = 0; i < threads.size(); i = warp_end(i)) {
            last = warp_end(i);
            while (next < last) {
                Fiber* const fiber = idle.back();
                idle.pop_back();
                enter(fiber);
            }
            run_warp(i);
        }
        while (left > 0) {
            unsigned first = 0;
            while (threads[first].state == Thread::over) ++first;
            if (threads[first].meeting.of_warp || !meet_at(first)) throw Errant(standstill());
            for (unsigned i = 0; i < threads.size(); i = warp_end(i)) run_warp(i);
        }
    }

    // The current thread waits for those that it meets. Returns the lanes that voted.
    unsigned meet(const Meeting& meeting) {
        Thread& self = *current;
        if (meeting.of_warp && !(meeting.lanes >> lane() & 1)) fail("is not among those of " + meeting.text());
        self.meeting = meeting, self.state = Thread::waits;
        change(*self.fiber, scheduler);
        self.state = Thread::runs, threadIdx = self.index;
        return self.votes;
    }

    // Ends the launch, from inside a kernel.
    [[noreturn]] void fail(const std::string& what) {
        const std::string who = "thread " + text(current->index) + " of block " + text(blockIdx) + " ";
        thrown = std::make_exception_ptr(Errant(who + what));
        change(*current->fiber, scheduler);
        std::abort();  // nobody comes back
    }

    int lane() const { return static_cast<int>(current - threads.data()) % warpSize; }

private:
    static constexpr std::size_t STACK = (256 << 10) + 192;     // bytes; by a power of two caches thrash
    static constexpr std::uint64_t MARK = 0x0ddba11f00dfacade;  // in the last place of a stack

    void (*const call)(const void*);
    const void* const callable;
    std::vector<Thread> threads;
    std::vector<unsigned> sequence;  // of threads, warp by warp
    unsigned left = 0;               // threads not over
    unsigned next = 0, last = 0;     // places in `sequence`: to begin next, and not to begin yet
    std::vector<Fiber> fibers;
    std::vector<Fiber*> idle;
    Fiber scheduler{};
    Fiber* entered = nullptr;
    Thread* current = nullptr;
    std::exception_ptr thrown;

    void arrange(unsigned number) {
        const unsigned count = threads.size();
        sequence.clear();
        for (unsigned warp : ordered((count + warpSize - 1) / warpSize, number)) {
            const unsigned first = warp * warpSize;
            for (unsigned lane : ordered(std::min<unsigned>(warpSize, count - first), number + warp))
                sequence.push_back(first + lane);
        }
    }

    // The place in `sequence` behind the warp that begins at `place`.
    unsigned warp_end(unsigned place) const {
        const unsigned first = sequence[place] / warpSize * warpSize;
        return place + std::min<unsigned>(warpSize, threads.size() - first);
    }

    void run_warp(unsigned begin) {
        for (bool any = true; any;) {
            any = false;
            for (unsigned i = begin; i < warp_end(begin); ++i) {
                Thread& thread = threads[sequence[i]];
                if (thread.state == Thread::goes_on) current = &thread, enter(thread.fiber);
            }
            for (unsigned i = begin; i < warp_end(begin); ++i) {
                const Thread& thread = threads[sequence[i]];
                any |= thread.state == Thread::waits && thread.meeting.of_warp && meet_at(sequence[i]);
            }
        }
    }

    // Has a fiber run until its thread waits, or until no thread is left to begin.
    void enter(Fiber* fiber) {
        entered = fiber;
        change(scheduler, *fiber);
        if (thrown) std::rethrow_exception(thrown);
    }

    static void work() {  // of a fiber, without end
        Block& here = *block;
        Fiber& self = *here.entered;
        arrive(self, here.scheduler);
        last_place(self) = MARK;
        for (;;) {
            while (here.next < here.last && !here.thrown) here.begin(self);
            here.idle.push_back(&self);
            change(self, here.scheduler);
        }
    }

    static std::uint64_t& last_place(Fiber& fiber) { return *reinterpret_cast<std::uint64_t*>(fiber.stack); }

    void begin(Fiber& fiber) {
        Thread& thread = *(current = &threads[sequence[next++]]);
        thread.fiber = &fiber, thread.state = Thread::runs, threadIdx = thread.index;
        try {
            call(callable);
            if (last_place(fiber) != MARK) fail("needs a larger stack");
        } catch (...) {
            thrown = std::current_exception();
        }
        thread.state = Thread::over;
        --left;
    }

    // Has the threads go on that meet thread `index`, if all have come. Returns whether they have.
    bool meet_at(unsigned index) {
        const Meeting meeting = threads[index].meeting;
        const unsigned count = threads.size(), first = meeting.of_warp ? index / warpSize * warpSize : 0;
        const unsigned end = meeting.of_warp ? std::min(first + warpSize, count) : count;
        const auto named = [&](unsigned i) {
            return threads[i].state != Thread::over && (!meeting.of_warp || meeting.lanes >> (i - first) & 1);
        };
        unsigned votes = 0;
        for (unsigned i = first; i < end; ++i) {
            if (!named(i)) continue;
            if (threads[i].state != Thread::waits || !threads[i].meeting.with(meeting)) return false;
            if (threads[i].meeting.vote) votes |= 1u << i % warpSize;
        }
        for (unsigned i = first; i < end; ++i) {
            if (!named(i)) continue;
            const Meeting& mine = threads[i].meeting;
            const unsigned from = first + mine.from;
            const bool there = from < end && named(from);
            if (mine.size && there) std::memcpy(mine.result, threads[from].meeting.value, mine.size);
            if (mine.size && !there) std::memset(mine.result, 0xff, mine.size);
            threads[i].votes = votes, threads[i].state = Thread::goes_on;
        }
        return true;
    }

    std::string standstill() const {
        std::map<std::string, std::vector<const Thread*>> meetings;
        for (const Thread& thread : threads)
            if (thread.state == Thread::waits) meetings[thread.meeting.text()].push_back(&thread);
        std::string all = "block " + emulated::text(blockIdx) + " can never go on:";
        for (const auto& each : meetings)
            all += "\n  " + std::to_string(each.second.size()) + " threads, first "
                   + emulated::text(each.second[0]->index) + ", wait in " + each.first;
        return all;
    }
};

// ---------------------------------------------------------------------------------------------------- launch

template <class Callable>
void launch(dim3 grid, dim3 size, std::size_t shared_bytes, const Callable& callable) {
    const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
    const std::uint64_t threads = std::uint64_t{size.x} * size.y * size.z;
    if (blocks == 0 || blocks >> 31 || grid.y > 65535 || grid.z > 65535 || threads == 0 || threads > 1024
        || size.z > 64 || shared_bytes > 227 << 10)
        throw Errant("no GPU launches " + text(grid) + " blocks of " + text(size) + " threads with "
                     + std::to_string(shared_bytes) + " bytes of shared memory");
    const std::vector<unsigned> sequence = ordered(blocks, 0);
    std::atomic<bool> failed{false};
    std::exception_ptr thrown;
#ifdef _OPENMP
    #pragma omp parallel if (blocks > 1)
#endif
    {
        Block here(size, shared_bytes, [](const void* it) { (*static_cast<const Callable*>(it))(); }, &callable);
        block = &here, blockDim = size, gridDim = grid;
#ifdef _OPENMP
        #pragma omp for schedule(dynamic)
#endif
        for (unsigned i = 0; i < sequence.size(); ++i) {
            if (failed) continue;
            const unsigned number = sequence[i];
            blockIdx = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
            try {
                here.run(number);
            } catch (...) {
                if (!failed.exchange(true)) thrown = std::current_exception();
            }
        }
        block = nullptr;
    }
    if (thrown) std::rethrow_exception(thrown);
}

class Launch {  // what is between <<< and >>>
public:
    Launch(dim3 grid, dim3 size, std::size_t shared_bytes = 0, const void* /*stream*/ = nullptr)
        : grid(grid), size(size), shared_bytes(shared_bytes) {}

    template <class Kernel, class... Arguments>
    void operator()(const Kernel& kernel, Arguments... arguments) const {
        launch(grid, size, shared_bytes, [&] { kernel(arguments...); });
    }

private:
    dim3 grid, size;
    std::size_t shared_bytes;
};

template <class T>
T* dynamic_shared() { return reinterpret_cast<T*>(block->shared.data()); }  // `extern __shared__ T name[]`

// ------------------------------------------------------------------------------------------ what kernels call

constexpr unsigned ALL_LANES = 0xffffffff;

template <class T>
T from_lane(const char* name, unsigned lanes, const T& value, int from, Site site) {
    static_assert(std::is_trivially_copyable<T>::value, "lanes exchange bytes");
    T result;
    block->meet({name, site, true, lanes, false, from, sizeof value, &value, &result});
    return result;
}

inline int lane() { return block->lane(); }
inline int segment(int width) { return lane() & ~(width - 1); }  // its first lane

// Has `change` applied to what is at `place`, as one step. Returns what was there.
template <class T, class Change>
T atomically(T* place, Change change) {
    T old, changed;
    __atomic_load(place, &old, __ATOMIC_RELAXED);
    do changed = change(old);
    while (!__atomic_compare_exchange(place, &old, &changed, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

template <class T>
using Same = typename std::common_type<T>::type;  // takes no part in finding T

}  // namespace emulated

#ifdef EMULATED_ALIGNMENT  // with -fsanitize=alignment, which has this called before an access that a GPU refuses
extern "C" void __ubsan_handle_type_mismatch_v1(void* site, void*) {
    if (!emulated::block) std::abort();
    emulated::block->fail("accesses a misaligned place at " + static_cast<emulated::Site*>(site)->text());
}
#endif

inline void __syncthreads(emulated::Site site = emulated::Site::here()) {
    emulated::block->meet({"__syncthreads", site, false, 0, false, 0, 0, nullptr, nullptr});
}
inline void __syncwarp(unsigned lanes = emulated::ALL_LANES, emulated::Site site = emulated::Site::here()) {
    emulated::block->meet({"__syncwarp", site, true, lanes, false, 0, 0, nullptr, nullptr});
}
inline unsigned __ballot_sync(unsigned lanes, int vote, emulated::Site site = emulated::Site::here()) {
    return emulated::block->meet({"__ballot_sync", site, true, lanes, vote != 0, 0, 0, nullptr, nullptr});
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

template <class T>
T __shfl_sync(unsigned lanes, T value, int from, int width = 32, emulated::Site site = emulated::Site::here()) {
    return emulated::from_lane("__shfl_sync", lanes, value, emulated::segment(width) + (from & (width - 1)), site);
}
template <class T>
T __shfl_up_sync(unsigned lanes, T value, unsigned by, int width = 32,
                 emulated::Site site = emulated::Site::here()) {
    const int from = emulated::lane() - static_cast<int>(by);
    return emulated::from_lane("__shfl_up_sync", lanes, value,
                               from < emulated::segment(width) ? emulated::lane() : from, site);
}
template <class T>
T __shfl_down_sync(unsigned lanes, T value, unsigned by, int width = 32,
                   emulated::Site site = emulated::Site::here()) {
    const int from = emulated::lane() + static_cast<int>(by);
    return emulated::from_lane("__shfl_down_sync", lanes, value,
                               from < emulated::segment(width) + width ? from : emulated::lane(), site);
}
template <class T>
T __shfl_xor_sync(unsigned lanes, T value, int bits, int width = 32,
                  emulated::Site site = emulated::Site::here()) {
    const int from = emulated::lane() ^ bits;
    return emulated::from_lane("__shfl_xor_sync", lanes, value,
                               from < emulated::segment(width) + width ? from : emulated::lane(), site);
}

template <class T>
T atomicAdd(T* place, emulated::Same<T> value) {
    return emulated::atomically(place, [=](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMax(T* place, emulated::Same<T> value) {
    return emulated::atomically(place, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* place, emulated::Same<T> value) {
    return emulated::atomically(place, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicExch(T* place, emulated::Same<T> value) {
    return emulated::atomically(place, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* place, emulated::Same<T> expected, emulated::Same<T> value) {
    return emulated::atomically(place, [=](T old) { return old == expected ? value : old; });
}
