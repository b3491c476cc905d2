# The engines to compare with: MPI's, once for each library that is there, and the one that uses the CANN door.

# Of the library that pkg-config knows as `package`: epx-bench-mpi-<name>.
function(epx_bench_mpi name package)
  pkg_check_modules(BENCH_${name} QUIET IMPORTED_TARGET ${package})
  if(NOT BENCH_${name}_FOUND)
    message(STATUS "epx-bench-mpi-${name}: not built, pkg-config does not find ${package}")
    return()
  endif()
  message(STATUS "epx-bench-mpi-${name}: built with ${package} ${BENCH_${name}_VERSION}")
  # The kernels are the library's own, so that only the exchange differs.
  add_executable(epx-bench-mpi-${name} ${CMAKE_CURRENT_LIST_DIR}/engine_mpi.c ${CMAKE_CURRENT_LIST_DIR}/mpi_exchange.c
                                       ${EPX_BENCH_SHARED}
                                       $<TARGET_OBJECTS:floor_kernel> $<TARGET_OBJECTS:floor_base>)
  target_include_directories(epx-bench-mpi-${name} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(epx-bench-mpi-${name} PRIVATE PkgConfig::BENCH_${name} ${EPX_LIBRARIES} m)
  epx_bench_engine(epx-bench-mpi-${name})
endfunction()

epx_bench_mpi(openmpi ompi-c)
epx_bench_mpi(mpich mpich)

add_executable(epx-bench-cann ${CMAKE_CURRENT_LIST_DIR}/engine_cann.c ${CMAKE_CURRENT_LIST_DIR}/cann_rank.c
                              ${CMAKE_CURRENT_LIST_DIR}/library_threads.c ${EPX_BENCH_SHARED})
target_include_directories(epx-bench-cann PRIVATE ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(epx-bench-cann PRIVATE shim_ascendcl shim_nnopbase shim_opapi shim_hccl epx Threads::Threads m)
epx_bench_engine(epx-bench-cann)
set_target_properties(epx-bench-cann PROPERTIES
  INSTALL_RPATH "$ORIGIN/../../${EPX_LIBDIR};$ORIGIN/../../latest/lib64")
