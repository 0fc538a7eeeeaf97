// The kernels of the CPU: the names and arguments of cuda/*.cu, `size` the number of work items.
#pragma once

#include "platform.cuh"

namespace segreg {

void compose(int64 size, const float* first, const float* second, int depth, int height,
             int width, float scale, float* composition);

void jacobian_determinant(int64 size, const float* displacement, int depth, int height, int width,
                          float* determinants);

void invert(int64 size, const float* displacement, int depth, int height, int width,
            Affine affine, Affine guess, int target_depth, int target_height, int target_width,
            int steps, float tolerance, float* inverse, float* residual);

void resample_field(int64 size, const float* field, int depth, int height, int width,
                    int new_depth, int new_height, int new_width, float* resized);

void filter(int64 size, const float* volume, int depth, int height, int width,
            const float* weights, int radius_z, int radius_y, int radius_x, int mirror,
            float* result);

void warp(int64 size, const float* moving, int channels, int moving_depth, int moving_height,
          int moving_width, const float* displacement, int depth, int height, int width,
          Affine affine, int nearest, float outside, float* warped);

void warp_cubic(int64 size, const float* coefficients, int channels, int moving_depth,
                int moving_height, int moving_width, const float* displacement, int depth,
                int height, int width, Affine affine, float outside, float* warped);

void warp_labels(int64 size, const int* labels, int moving_depth, int moving_height,
                 int moving_width, const float* displacement, int depth, int height,
                 int width, Affine affine, int nearest, int* warped);

void relabel(int64 size, const unsigned char* labels, int bytes, const int* table, int table_size,
             int* regions);

void mark_labels(int64 size, const unsigned char* labels, int bytes, int limit, int tables,
                 unsigned char* seen);

void overlap(int64 size, const int* moving, int moving_depth, int moving_height,
             int moving_width, const int* fixed, const float* displacement, int depth,
             int height, int width, Affine affine, int nearest, int count, int tables,
             int64* confusion);

void region_stats(int64 size, const int* regions, const float* image, int depth, int height,
                  int width, int count, int64* moments, double* intensities);

void shape_regions(int64 size, const int* regions, int depth, int height, int width,
                   const int* indices, const int* boxes, const int64* begins, int count,
                   unsigned char* bytes);

void gather_regions(int64 size, const float* image, int depth, int height, int width,
                    const unsigned char* shapes, const int64* begins, const int* boxes,
                    const float* affines, const float* intensity, const float* displacement,
                    int stride, int canvas_depth, int canvas_height,
                    int canvas_width, int channels, int masked_channel, int mask_channel,
                    int image_channel, float* batch, unsigned short* halves);

void mask_products(int64 size, const float* batch, int channels, int voxels, int first, int second,
                   int pieces, double* sums);

void sum_distances(int64 size, const float* points, const float* centres, const float* weights,
                   int count, float* sums);

void distance_rows(int64 size, const unsigned char* mask, int length, const float* spacing,
                   int rows_each, float* squares);

void distance_axis(int64 size, const float* squares, int depth, int height, int width,
                   const float* spacing, float most_square, int axis, int root,
                   float* distances);

void jacobian_sums(int64 size, const int* regions, const float* jacobian, int depth, int height,
                   int width, int count, int64* counts, double* sums);

void count_folds(int64 size, const float* displacement, int depth, int height, int width,
                 const float* masks, int channels, int channel, int stride, int64* counts);

void outline(int64 size, const int* regions, int depth, int height, int width, short* outlines);

void near_surfaces(int64 size, const short* outline, const short* others, int depth, int height,
                   int width, const int* offsets, const int* steps, const int* bins,
                   int offset_count, const int* reach, int count, int tables, int64* counts,
                   unsigned char* distant);

void far_surfaces(int64 size, const int* voxels, const short* outline, const short* others,
                  int depth, int height, int width, const int* boxes, const float* spacing,
                  float* squares);

void fuse_fields(int64 size, const int* regions, int depth, int height, int width,
                 const float* fields, const float* distances, int count, int field_depth,
                 int field_height, int field_width, const float* to_field, const float* to_voxel,
                 const float* spacing, const float* background, int background_depth,
                 int background_height, int background_width, const float* background_to_field,
                 const float* background_to_voxel, const float* falloff, const float* reach,
                 int words, const int* candidates, float* displacement);

void least_of_rows(int64 size, const float* distances, int width, float* least);

void find_candidates(int64 size, int height, const float* least, int count, int field_depth,
                     int field_height, const float* to_field, const float* to_voxel,
                     const float* spacing, const float* farthest, int words, int* candidates);

void mark_folds(int64 size, const float* displacement, int depth, int height, int width,
                const unsigned char* worked, const unsigned char* worked_rows, float threshold,
                unsigned char* folds, unsigned char* rows);

void open_folds(int64 size, const unsigned char* folds, const unsigned char* rows, int depth,
                int height, int width, const float* freedom, const float* ease, float threshold,
                float target, float overstep, float longest, int phase, float* displacement);

void smooth_within(int64 size, const float* volume, const float* edges, int depth, int height,
                   int width, const float* weights, int radius_z, int radius_y, int radius_x,
                   int paired, float* result);

void couple(int64 size, const int* words, const float* displacement, int depth, int height,
            int width, float unit_z, float unit_y, float unit_x, float slip, float* edges);

void border_axis(int64 size, const int* words, const float* squares, int depth, int height,
                 int width, int axis, float step, int radius, float farthest, int last,
                 int* next_words, float* next);

void match_sides(int64 size, const float* moving, const int* moving_words,
                 const float* moving_distances, int moving_depth, int moving_height,
                 int moving_width, Affine affine, const float* fixed, const int* fixed_words,
                 const float* fixed_distances, const float* displacement, int depth, int height,
                 int width, float unit_z, float unit_y, float unit_x, float margin, float slack,
                 float rest, float beyond, float* matches);

void cell_windows(int64 size, const float* moving, int moving_depth, int moving_height,
                  int moving_width, Affine affine, const float* fixed, const int* words,
                  const float* displacement, int depth, int height, int width, const int* regions,
                  int cell_depth, int cell_height, int cell_width, int factor_z, int factor_y,
                  int factor_x, float* sums);

void cell_normals(int64 size, const float* moving, const int* moving_words,
                  const float* moving_distances, int moving_depth, int moving_height,
                  int moving_width, Affine affine, const float* fixed, const int* words,
                  const float* distances, const float* displacement, int depth, int height,
                  int width, float unit_z, float unit_y, float unit_x, float margin, float slack,
                  float rest, float beyond, float image_weight, float outline_weight, float floor,
                  const float* windows, const int* regions, int cell_depth, int cell_height,
                  int cell_width, int factor_z, int factor_y, int factor_x, float* normals);

void outline_pulls(int64 size, const int* moving_words, const float* moving_distances,
                   int moving_depth, int moving_height, int moving_width, Affine affine,
                   const int* fixed_words, const float* fixed_distances,
                   const float* displacement, int depth, int height, int width, float unit_z,
                   float unit_y, float unit_x, float margin, float slack, float rest,
                   float beyond, const unsigned char* marks, float* pulls);

void follow_pulls(int64 size, const float* pulls, const float* edges, int depth, int height,
                  int width, const float* weights, int radius_z, int radius_y, int radius_x,
                  float damping, float longest, float unit_z, float unit_y, float unit_x,
                  const unsigned char* marks, float* displacement);

void mark_blocks(int64 size, const float* errors, int depth, int height, int width, int rim,
                 float bound, unsigned char* marks);

void take_step(int64 size, const float* normals, int depth, int height, int width, float damping,
               float longest, float unit_z, float unit_y, float unit_x, float* displacement);

void add_change(int64 size, const float* change, const int* coarse, int coarse_depth,
                int coarse_height, int coarse_width, Affine to_coarse, float unit_z, float unit_y,
                float unit_x, const int* regions, int depth, int height, int width,
                float* displacement);

}  // namespace segreg
