// Whose memory NumPy gives to new arrays.
#pragma once

#include <pybind11/pybind11.h>

namespace segreg {

// The handler whose arrays lie in kept memory.
pybind11::object memory_handler();

// Makes NumPy use a handler in the current context; returns the one before.
pybind11::object exchange_handler(pybind11::object handler);

}  // namespace segreg
