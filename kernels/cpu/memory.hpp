// Memory of large arrays, kept when they go and handed to the next ones.
#pragma once

#include <cstddef>
#include <new>

#include "platform.cuh"

namespace segreg {

// Memory for `size` bytes, its content undefined unless `cleared`. Null if there is none.
void* take_memory(size_t size, bool cleared = false);
void* resize_memory(void* memory, size_t size);
void give_memory(void* memory);

// Bytes that may be kept unused; what is kept beyond it is freed.
void keep_memory(int64 bytes);
int64 kept_memory();

// An array of numbers in such memory, not initialised.
template <typename T>
class Scratch {
public:
    explicit Scratch(size_t count) : data_(static_cast<T*>(take_memory(count * sizeof(T)))) {
        if (!data_) throw std::bad_alloc();
    }
    ~Scratch() { give_memory(data_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    T* data() const { return data_; }

private:
    T* data_;
};

}  // namespace segreg
