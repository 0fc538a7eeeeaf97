// Kernels as Python functions: name(size, *arguments), arrays checked for dtype and contiguity,
// None for a null pointer, the GIL released.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <type_traits>

#include "platform.cuh"

namespace segreg {

// A NumPy array on its way to a pointer argument; keeps the array alive during the call.
template <typename T>
struct Buffer {
    T* data = nullptr;
    pybind11::object owner;
    operator T*() const { return data; }
};

template <typename Argument>
struct Received {
    using type = Argument;
};
template <typename T>
struct Received<T*> {
    using type = Buffer<T>;
};

template <typename T>
std::string type_name() {
    if constexpr (std::is_pointer_v<T>) {
        using Pointee = std::remove_pointer_t<T>;
        const std::string constness = std::is_const_v<Pointee> ? "const " : "";
        return constness + type_name<std::remove_const_t<Pointee>>() + "*";
    } else if constexpr (std::is_same_v<T, Affine>) {
        return "Affine";
    } else if constexpr (std::is_same_v<T, float>) {
        return "float";
    } else if constexpr (std::is_same_v<T, double>) {
        return "double";
    } else if constexpr (std::is_same_v<T, int>) {
        return "int";
    } else if constexpr (std::is_same_v<T, short>) {
        return "short";
    } else if constexpr (std::is_same_v<T, unsigned short>) {
        return "unsigned short";
    } else if constexpr (std::is_same_v<T, unsigned char>) {
        return "unsigned char";
    } else {
        static_assert(std::is_same_v<T, int64>, "a type that no kernel takes");
        return "int64";
    }
}

// Adds the kernel to the module, and its argument types to `signatures`.
template <typename... Arguments>
void bind(pybind11::module_& module, const char* name, void (*kernel)(int64, Arguments...)) {
    module.def(
        name,
        [kernel](int64 size, typename Received<Arguments>::type... arguments) {
            pybind11::gil_scoped_release released;
            kernel(size, arguments...);
        });
    module.attr("signatures")[name] = pybind11::make_tuple("int64", type_name<Arguments>()...);
}

}  // namespace segreg

namespace pybind11::detail {

template <typename T>
struct type_caster<segreg::Buffer<T>> {
    PYBIND11_TYPE_CASTER(segreg::Buffer<T>, const_name("numpy.ndarray | None"));

    bool load(handle source, bool) {
        if (source.is_none()) return true;
        if (!isinstance<array>(source)) return false;
        auto values = reinterpret_borrow<array>(source);
        const auto type = dtype::of<std::remove_const_t<T>>();
        if (values.dtype().kind() != type.kind() || values.itemsize() != type.itemsize()) {
            return false;
        }
        if (!(values.flags() & array::c_style)) return false;
        if constexpr (!std::is_const_v<T>) {
            if (!values.writeable()) return false;
        }
        value.data = static_cast<T*>(const_cast<void*>(values.data()));
        value.owner = values;
        return true;
    }
};

// An affine travels by value: an array of one record of twelve numbers.
template <>
struct type_caster<segreg::Affine> {
    PYBIND11_TYPE_CASTER(segreg::Affine, const_name("numpy.ndarray"));

    bool load(handle source, bool) {
        if (!isinstance<array>(source)) return false;
        auto record = reinterpret_borrow<array>(source);
        if (record.size() != 1 || record.itemsize() != sizeof(segreg::Affine)) return false;
        std::memcpy(value.m, record.data(), sizeof(value.m));
        return true;
    }
};

}  // namespace pybind11::detail
