// segreg.kernels._cpu: every kernel, and the number of threads they run on.
#include "kernels.hpp"

#include <atomic>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "arrays.hpp"
#include "binding.hpp"
#include "launch.hpp"
#include "memory.hpp"

namespace segreg {
namespace {

int default_threads() {
#if defined(_OPENMP)
    return omp_get_max_threads();
#else
    return 1;
#endif
}

std::atomic<int> thread_count{default_threads()};

void set_threads(int count) {
    if (count < 1) {
        throw pybind11::value_error("threads: expected at least 1, got " + std::to_string(count) +
                                    ".");
    }
    thread_count = count;
}

}  // namespace

int threads() {
    return thread_count;
}

}  // namespace segreg

PYBIND11_MODULE(_cpu, module) {
    using namespace segreg;
    module.doc() = "The kernels of segreg, compiled for this processor.";
    module.attr("signatures") = pybind11::dict();
    module.def("set_threads", &set_threads);
    module.def("get_threads", &threads);
    module.def("keep_memory", &keep_memory);
    module.def("kept_memory", &kept_memory);
    module.def("memory_handler", &memory_handler);
    module.def("exchange_handler", &exchange_handler);
    bind(module, "compose", &compose);
    bind(module, "jacobian_determinant", &jacobian_determinant);
    bind(module, "invert", &invert);
    bind(module, "filter", &filter);
    bind(module, "resample_field", &resample_field);
    bind(module, "warp", &warp);
    bind(module, "warp_cubic", &warp_cubic);
    bind(module, "warp_labels", &warp_labels);
    bind(module, "relabel", &relabel);
    bind(module, "mark_labels", &mark_labels);
    bind(module, "overlap", &overlap);
    bind(module, "region_stats", &region_stats);
    bind(module, "shape_regions", &shape_regions);
    bind(module, "gather_regions", &gather_regions);
    bind(module, "mask_products", &mask_products);
    bind(module, "sum_distances", &sum_distances);
    bind(module, "distance_rows", &distance_rows);
    bind(module, "distance_axis", &distance_axis);
    bind(module, "least_of_rows", &least_of_rows);
    bind(module, "find_candidates", &find_candidates);
    bind(module, "jacobian_sums", &jacobian_sums);
    bind(module, "count_folds", &count_folds);
    bind(module, "outline", &outline);
    bind(module, "near_surfaces", &near_surfaces);
    bind(module, "far_surfaces", &far_surfaces);
    bind(module, "fuse_fields", &fuse_fields);
    bind(module, "mark_folds", &mark_folds);
    bind(module, "open_folds", &open_folds);
    bind(module, "couple", &couple);
    bind(module, "smooth_within", &smooth_within);
    bind(module, "border_axis", &border_axis);
    bind(module, "match_sides", &match_sides);
    bind(module, "cell_windows", &cell_windows);
    bind(module, "cell_normals", &cell_normals);
    bind(module, "outline_pulls", &outline_pulls);
    bind(module, "follow_pulls", &follow_pulls);
    bind(module, "mark_blocks", &mark_blocks);
    bind(module, "take_step", &take_step);
    bind(module, "add_change", &add_change);
}
