// NumPy arrays in memory that is kept when they go (NEP 49).
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include "arrays.hpp"

#include <numpy/arrayobject.h>

#include <stdexcept>

#include "memory.hpp"

namespace segreg {
namespace {

void* array_malloc(void*, size_t size) {
    return take_memory(size);
}

void* array_calloc(void*, size_t count, size_t size) {
    return take_memory(count * size, true);
}

void* array_realloc(void*, void* memory, size_t size) {
    return resize_memory(memory, size);
}

void array_free(void*, void* memory, size_t) {
    give_memory(memory);
}

PyDataMem_Handler handler = {
    "segreg_kept_memory", 1, {nullptr, array_malloc, array_calloc, array_realloc, array_free}};

int import_numpy() {
    import_array1(-1);
    return 0;
}

}  // namespace

pybind11::object memory_handler() {
    if (!PyArray_API && import_numpy() < 0) throw pybind11::error_already_set();
    return pybind11::reinterpret_steal<pybind11::object>(
        PyCapsule_New(&handler, "mem_handler", nullptr));
}

pybind11::object exchange_handler(pybind11::object capsule) {
    if (!PyArray_API && import_numpy() < 0) throw pybind11::error_already_set();
    PyObject* old = PyDataMem_SetHandler(capsule.ptr());
    if (!old) throw pybind11::error_already_set();
    return pybind11::reinterpret_steal<pybind11::object>(old);
}

}  // namespace segreg
