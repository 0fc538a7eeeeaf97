#include "memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace segreg {
namespace {

// A fresh large block costs a page fault and a cleared page per 4 KiB, as much as many a kernel
// that fills it.
const size_t LARGE = (size_t)1 << 20;
const size_t GRAIN = (size_t)1 << 16;
// A block may serve an array that is smaller by an eighth; the rest lies idle meanwhile.
const size_t SLACK = 8;

// Large pages, where the system gives them for the asking: fewer faults.
void ask_for_large_pages(void* block, size_t size) {
#if defined(__linux__)
    const size_t page = 4096;
    const size_t offset = (page - reinterpret_cast<uintptr_t>(block) % page) % page;
    madvise(static_cast<char*>(block) + offset, size - offset, MADV_HUGEPAGE);
#else
    (void)block, (void)size;
#endif
}

class Pool {
public:
    void* take(size_t size, bool cleared) {
        if (size < LARGE) return cleared ? std::calloc(1, size ? size : 1) : std::malloc(size);
        size = (size + GRAIN - 1) / GRAIN * GRAIN;
        if (void* block = take_idle(size)) {
            return cleared ? std::memset(block, 0, size) : block;
        }
        void* block = cleared ? std::calloc(1, size) : std::malloc(size);
        if (block) {
            ask_for_large_pages(block, size);
            std::lock_guard<std::mutex> lock(mutex_);
            sizes_[block] = size;
        }
        return block;
    }

    void give(void* block) {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto found = sizes_.find(block);
        if (found == sizes_.end() || found->second > limit_) {
            if (found != sizes_.end()) sizes_.erase(found);
            std::free(block);
            return;
        }
        // What lay idle longest makes room: another stage of the work needed it.
        const size_t size = found->second;
        shrink(limit_ - size);
        kept_ += size;
        idle_.emplace(size, Idle{block, ++clock_});
    }

    // Bytes that a block was made for, 0 if it came from malloc.
    size_t size_of(void* block) {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto found = sizes_.find(block);
        return found == sizes_.end() ? 0 : found->second;
    }

    void keep(size_t limit) {
        std::lock_guard<std::mutex> lock(mutex_);
        limit_ = limit;
        shrink(limit);
    }

    size_t kept() {
        std::lock_guard<std::mutex> lock(mutex_);
        return kept_;
    }

private:
    struct Idle {
        void* block;
        size_t since;
    };

    // Frees idle blocks, the longest idle first, until at most `bytes` are kept.
    void shrink(size_t bytes) {
        while (kept_ > bytes) {
            const auto oldest = std::min_element(
                idle_.begin(), idle_.end(),
                [](const auto& a, const auto& b) { return a.second.since < b.second.since; });
            kept_ -= oldest->first;
            sizes_.erase(oldest->second.block);
            std::free(oldest->second.block);
            idle_.erase(oldest);
        }
    }

    void* take_idle(size_t size) {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto found = idle_.lower_bound(size);
        if (found == idle_.end() || found->first - size > size / SLACK) return nullptr;
        void* block = found->second.block;
        kept_ -= found->first;
        idle_.erase(found);
        return block;
    }

    std::mutex mutex_;
    std::multimap<size_t, Idle> idle_;
    std::unordered_map<void*, size_t> sizes_;  // of all blocks, idle or not
    size_t kept_ = 0, limit_ = 0, clock_ = 0;
};

// Never destroyed: arrays may outlive this module.
Pool& pool() {
    static Pool* const one = new Pool;
    return *one;
}

}  // namespace

void* take_memory(size_t size, bool cleared) {
    return pool().take(size, cleared);
}

void give_memory(void* memory) {
    if (memory) pool().give(memory);
}

void* resize_memory(void* memory, size_t size) {
    const size_t old = memory ? pool().size_of(memory) : 0;
    if (!old) return std::realloc(memory, size);
    void* other = take_memory(size);
    if (!other) return nullptr;
    std::memcpy(other, memory, old < size ? old : size);
    give_memory(memory);
    return other;
}

void keep_memory(int64 bytes) {
    pool().keep((size_t)bytes);
}

int64 kept_memory() {
    return (int64)pool().kept();
}

}  // namespace segreg
